"""How one operation travels: from a queued stack update to a recorded outcome.

``worker``      takes the next queued update, claims its stack, runs it and records the outcome
``lease``       keeps the claim alive while that goes on
``workspace``   prepares a private copy of the module and the stack input
``pulumi``      says what to run and with which environment; reads the engine's words into an outcome
``runs``        a run's directory and the commands in it
``supervisor``  the tiny process above each command, which outlives the service
``process``     signals and waiting
``recovery``    ends what an earlier life of the service left behind
``toolchain``   finds a Pulumi CLI, or builds the pinned one
``modules``     the Pulumi modules that ship with the product
"""
