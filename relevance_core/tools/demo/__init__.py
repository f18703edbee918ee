"""The loop in a real Airflow on this machine: `make demo` drives two nights of it, `make up` keeps it running for a person."""
