"""Attribution by swap: which part of the rows carries a trait, seen by replacing its answers and training again."""
