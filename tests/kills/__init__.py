"""Kills at random moments, and what always holds in spite of them: `uv run python -m tests.kills --rounds 1000`.

``plans``    what is deployed, and how long it takes
``programs`` a stand-in for Pulumi, and a module for the real one, that tell when they run and whether they are alone
``scene``    the service, and its store's server, as processes that are killed and started again
``watcher``  follows one log as a client does, over all reconnections
``moments``  when which of the processes is killed
``rounds``   one round: deployments, kills at a moment, and what became of all
``rules``    what always holds
"""
