"""What every part uses of the machine: files, locks, memory, folders, progress."""
