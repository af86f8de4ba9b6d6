"""How one operation travels: from a queued stack update to a recorded outcome.

Taking it up:
``worker``      takes the next queued update, claims its stack, and sees to it until it is recorded
``requests``    brings what others ask, such as cancelling, to the worker
``lease``       keeps the claim alive while that goes on
``job``         one update at work: heeds what is asked of it, and tells how it is being ended
``recovery``    finds what an earlier life of the service left behind, and ends what nobody goes on with

Running Pulumi:
``deployment``  one deployment: prepare, run Pulumi, read the outcome
``workspace``   finds a kind's module and copies it for a run
``pulumi``      says what to run and with which environment
``runs``        a run's directory and the commands in it
``supervisor``  the tiny process above each command, which outlives the service
``fork_server`` starts them without the time that Python would need
``process``     signals and waiting
``lock``        proves that nothing of an earlier run on a stack lives
``limits``      what a run may use
``outcome``     success, cancelled, or a failure with a kind and a sentence

Telling what happens:
``changes``     wakes whoever waits for what others write into files
``lines``       splits what is written into lines
``output``      what a command printed, as text
``engine``      what Pulumi's event log says of a run
``progress``    follows a run's files, and makes what they say into what happened
``reporter``    tells that to the log at once, and to the record a few times a second
``log``         writes the log of a stack update, each event under its seq
``record``      writes each change of a stack update, first to its log, then to the store, then to whoever listens

Tidying up:
``retention``   forgets what ended long ago
``past``        removes what Pulumi's file backend never removes by itself

Beside:
``patience``    trying again, and doing things beside one another
``datadir``     the data directory
``doctor``      checks Pulumi, backend, data directory and modules
``toolchain``   finds a Pulumi CLI, or builds the pinned one
``modules``     the Pulumi modules that ship with the product
"""
