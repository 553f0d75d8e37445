"""Namespaces of Linux with a process that holds them: made, entered, called into, ended."""
