"""What a version is made of, and how it appears and is updated."""
