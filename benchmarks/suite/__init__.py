"""Where the time of the tests goes: processor, waiting, servers, containers, images and programs of each file."""
