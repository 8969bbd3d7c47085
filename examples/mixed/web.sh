#!/bin/sh
# A program that runs until it is asked to end.
trap 'exit 0' TERM
echo "release $1 begins"
while :; do
    sleep 1000 &
    wait $!
done
