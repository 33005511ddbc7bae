"""Training sets of simulated lenses and of what is mistaken for them, drawn with lenstronomy.

``config`` says what is wanted; ``order`` gives every row of the store its kind; ``lenses`` draws lenses until one passes the
``constraints``; ``galaxies`` draws the rest; ``scene`` turns either into pixels; ``partition`` does this for one partition.
An object depends on the seed, its partition and its row in it, and on nothing else.
"""
