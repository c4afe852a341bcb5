"""Students that a service trains: Tinker, and OpenAI or Azure for as long as they take jobs."""
