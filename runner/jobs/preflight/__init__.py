"""Find problems that would make a job fail after minutes in a queue, before anything is sent."""
