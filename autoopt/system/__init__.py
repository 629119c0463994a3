"""What the operating system is asked for, on behalf of all other rooms.

Files that are whole or not there, locks, private and temporary folders, processes that die with their parent, files of other
people, and the terminal. Nothing here knows of models, candidates or studies.
"""
