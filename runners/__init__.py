"""How one operation travels: from a queued stack update to a recorded outcome.

``worker``      takes the next queued update, claims its stack, runs it and records the outcome
``lease``       keeps the claim alive while that goes on
``record``      writes each change of a stack update, first to the store, then to whoever listens
``deployment``  one deployment: prepare, run Pulumi, read the outcome
``workspace``   finds a kind's module and copies it for a run
``pulumi``      says what to run and with which environment
``runs``        a run's directory and the commands in it
``lock``        proves that nothing of an earlier run on a stack lives
``output``      what a command printed, as text
``engine``      what Pulumi's event log says of a run
``outcome``     success, or a failure with a kind and a sentence
``supervisor``  the tiny process above each command, which outlives the service
``process``     signals and waiting
``recovery``    ends what an earlier life of the service left behind
``doctor``      checks Pulumi, backend, data directory and modules
``datadir``     the data directory
``toolchain``   finds a Pulumi CLI, or builds the pinned one
``modules``     the Pulumi modules that ship with the product
"""
