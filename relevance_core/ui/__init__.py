"""The pages of the product for a browser: an ASGI application that knows the store, and nothing of Airflow.

`app.create_app` makes it; the Airflow plugin (`relevance_airflow.pages`) mounts it under /relevance and says who may do what.
"""
