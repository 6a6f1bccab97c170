"""Runs on hardware that is rented: created, set up, started, watched over and deleted.

`python -m launch.cloud VERB --config=configs/launch_llava15.py`; docs/cloud.md is the way in.

    accelerators      what a slice is called by each part of the cloud
    settings          a launcher config, checked and frozen
    shell             runs commands; rehearsal prints them
    places            where a run lives: TPU VM, queued resource, host over ssh; the commands for each
    lifecycle         whether it is there; create, delete
    stage             what is copied to the workers
    workers           what is asked of them, and what they answer
    verbs             what each verb does
    watch             brings it all back after a preemption
    jobset            a manifest for GKE
    worker/           the scripts that run there
"""
