"""Crash points: every place where a process could die, by name, and the means to have one die there.

points.py     the table: what each point is called, what it wraps, on which side of it
patching.py   makes a process say that it has come to a point; nothing in the product knows of it
dying.py      death inside the test's own process: no command of the dead reaches the server any more
snapshot.py   everything that is stored, written so that two runs of the same scenario give the same
scenarios.py  what is going on when somebody dies
killing.py    death of a real process: SIGKILL, by its own hand, at the point that the environment names
"""
