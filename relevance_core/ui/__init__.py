"""The pages of the product for a browser: an ASGI application over the store, without Airflow.

`app.create_app` makes it; the Airflow plugin (`relevance_airflow.pages`) mounts it under /relevance and decides on users' rights.
"""
