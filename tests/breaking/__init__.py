"""Break every request of every command that costs or ends something, and see what is there afterwards."""
