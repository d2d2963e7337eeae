"""The corridor: the one path of every request, from who asks to what is recorded."""
