//! PostgreSQL clusters: create, tune, supervise, roles, databases, migrations, session pool.
