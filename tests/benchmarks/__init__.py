"""Speed of the gateway beside its peers, on one machine in one run.

`python -m tests.benchmarks` (or `make bench`) runs everything; `--quick` is a smaller round in
under two minutes. Events come in as they do at applications, too: one in a request, by many
producers or by one that pipelines; peers are published to in the same ways. One core serves, the
other holds every client. The programs that produce and consume the load are C, compiled when the
run starts, so that they are not what is measured.
"""
