"""What would make a job fail after minutes in a queue, found before anything is sent."""
