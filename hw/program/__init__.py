"""Every bit that crosses an interface: instruction set, host protocol, program file, and what a program may do."""
