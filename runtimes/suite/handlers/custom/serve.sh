#!/bin/sh
# A program as people deploy one: a script that prepares something and becomes the server.
echo "starting with $# arguments in $(pwd)"
if [ "$1" = exits ]; then exit 3; fi
exec /usr/bin/python3 -u server.py
