"""What a gate asks outside of this program: expressions in a process of their own, commands, scanners."""
