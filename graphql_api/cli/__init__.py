"""The command `stackcast`. All but serving is a client of the public API.

``front``      the commands and their options; serving, the demo and the doctor
``commands``   the commands that ask a server
``running``    how a command begins and ends: signals, refusals, exit codes
``target``     the server to ask
``client``     a client of the public API over one websocket
``following``  following a stack update over as many connections as that takes
``wording``    stack updates and events in words
``display``    showing them: a live picture, lines, or JSON
``terminal``   printing what a server sends, safely
``demo``       a sample, deployed through the client
``doctor``     every check of a machine that is to serve or deploy
"""
