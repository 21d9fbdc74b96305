"""What a Celery worker does after each fault of its server: ``python -m tests.matrix`` measures it, cell by cell.

A cell is a fault, a pool and a kind of server. A worker with a slow job in flight is put through the fault; from when
the server is back, the time is taken until the first job is done whose event was stored after that. A worker that
exits is started again, as its supervisor would, and that is said. In the end every event has been handled, in
order, and the books add up.
"""
