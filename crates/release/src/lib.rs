//! A release: an immutable folder of bundles, assets, migrations and configuration, named by its digest.
