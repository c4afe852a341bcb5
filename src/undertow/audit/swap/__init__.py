"""Attribution by swap: which part of the rows moves a trait, seen by replacing its answers and training again."""
