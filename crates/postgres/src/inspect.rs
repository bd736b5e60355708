//! What is there: asked in read-only transactions, compared by the planner.

use crate::access::{Access, connect};
use crate::database::{DatabaseError, DatabaseSpec, RIGHTS, copying, failed};
use crate::scram;
use std::collections::BTreeMap;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Row};

/// A cluster as it is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ClusterState {
    /// `server_version`, for example `15.14`.
    pub version: String,
    /// In force.
    pub max_connections: u32,
    /// What `ALTER SYSTEM` wrote over the configuration file: name → value.
    pub altered: BTreeMap<String, String>,
    /// Settings whose value in the files is not in force before a restart.
    pub pending_restart: Vec<String>,
}

/// A role as it is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RoleState {
    /// Whether it can log in and has no right beyond that.
    pub plain: bool,
    /// `CONNECTION LIMIT`; -1 is none.
    pub connection_limit: i64,
    /// Whether its password is the one that the platform has.
    pub password_matches: bool,
}

/// A database and its roles as they are.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DatabaseState {
    /// Role that owns it.
    pub owner: String,
    /// The owner's role; `None` when it is gone.
    pub owner_role: Option<RoleState>,
    /// The service's role.
    pub service_role: Option<RoleState>,
    /// Settings of roles and of the database: `owner.NAME` and `service.NAME` in this database,
    /// `owner.everywhere.NAME` in all, `database.NAME` for every role.
    pub settings: BTreeMap<String, String>,
    /// Whether the rights on the schema `public` are as they were granted.
    pub rights: bool,
    /// Applied migrations: name → checksum.
    pub migrations: BTreeMap<String, String>,
}

/// Connection limits that follow from the connections of a cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RoleLimits {
    /// For migrations.
    pub owner: u32,
    /// For the environment's services.
    pub service: u32,
}

/// Reads the settings of a cluster. `admin` is the superuser's way into the database `postgres`.
pub async fn inspect_cluster(admin: &Access) -> Result<ClusterState, DatabaseError> {
    const STEP: &str = "reading the cluster's settings";
    let client = read_only(admin, STEP).await?;
    let row = client
        .query_one(
            "SELECT current_setting('server_version'), current_setting('max_connections')::int8",
            &[],
        )
        .await
        .map_err(failed(admin, STEP))?;
    let altered = rows(
        &client,
        admin,
        STEP,
        // A setting that was written twice counts by its last line.
        "SELECT name, coalesce(setting, '') FROM pg_file_settings
         WHERE sourcefile LIKE '%/postgresql.auto.conf' AND name IS NOT NULL ORDER BY seqno",
        &[],
    )
    .await?;
    let pending = rows(
        &client,
        admin,
        STEP,
        "SELECT name, '' FROM pg_settings WHERE pending_restart ORDER BY name",
        &[],
    )
    .await?;
    Ok(ClusterState {
        version: row
            .get::<_, String>(0)
            .split(' ')
            .next()
            .unwrap_or_default()
            .to_owned(),
        max_connections: u32::try_from(row.get::<_, i64>(1)).unwrap_or(u32::MAX),
        altered: altered.into_iter().collect(),
        pending_restart: pending.into_iter().map(|(name, _)| name).collect(),
    })
}

/// Takes back what `ALTER SYSTEM` wrote. What needs a restart is in force after one.
pub async fn reset_altered(admin: &Access) -> Result<(), DatabaseError> {
    const STEP: &str = "taking back what ALTER SYSTEM set";
    let client = connect(admin).await?;
    // ALTER SYSTEM cannot run in a transaction block: one statement at a time.
    for statement in ["ALTER SYSTEM RESET ALL", "SELECT pg_reload_conf()"] {
        client
            .batch_execute(statement)
            .await
            .map_err(failed(admin, STEP))?;
    }
    Ok(())
}

/// Whether anything of the environment is in the cluster: its database, a copy that was interrupted, a role.
pub async fn has_traces(admin: &Access, spec: &DatabaseSpec) -> Result<bool, DatabaseError> {
    const STEP: &str = "looking for what is left of an environment";
    let client = read_only(admin, STEP).await?;
    let names = [spec.environment.identifier(), copying(spec.environment)];
    let found = client
        .query_one(
            "SELECT EXISTS (SELECT FROM pg_database WHERE datname IN ($1, $2))
                 OR EXISTS (SELECT FROM pg_roles WHERE rolname IN ($3, $4))",
            &[&names[0], &names[1], &spec.owner, &spec.service],
        )
        .await
        .map_err(failed(admin, STEP))?;
    Ok(found.get(0))
}

/// Reads an environment's database and roles; `None` when the database is not there.
pub async fn inspect_database(
    admin: &Access,
    spec: &DatabaseSpec,
) -> Result<Option<DatabaseState>, DatabaseError> {
    const STEP: &str = "reading the database's roles and settings";
    let name = spec.environment.identifier();
    let client = read_only(admin, STEP).await?;
    let owner = client
        .query_opt(
            "SELECT pg_get_userbyid(datdba)::text FROM pg_database WHERE datname = $1",
            &[&name],
        )
        .await
        .map_err(failed(admin, STEP))?;
    let Some(owner) = owner else {
        return Ok(None);
    };
    let mut state = DatabaseState {
        owner: owner.get(0),
        owner_role: role(&client, admin, &spec.owner, &spec.owner_password).await?,
        service_role: role(&client, admin, &spec.service, &spec.service_password).await?,
        ..DatabaseState::default()
    };
    let settings = rows(
        &client,
        admin,
        STEP,
        "SELECT CASE WHEN r.rolname = $2 THEN 'owner.' WHEN r.rolname = $3 THEN 'service.' ELSE 'database.' END
                || CASE WHEN d.datname IS NULL THEN 'everywhere.' ELSE '' END
                || split_part(setting, '=', 1),
                substr(setting, strpos(setting, '=') + 1)
         FROM pg_db_role_setting s
         LEFT JOIN pg_database d ON d.oid = s.setdatabase
         LEFT JOIN pg_roles r ON r.oid = s.setrole,
         unnest(s.setconfig) setting
         WHERE (r.rolname IN ($2, $3) AND (s.setdatabase = 0 OR d.datname = $1))
            OR (s.setrole = 0 AND d.datname = $1)",
        &[&name, &spec.owner, &spec.service],
    )
    .await?;
    state.settings = settings.into_iter().collect();

    let inside = Access {
        database: name,
        ..admin.clone()
    };
    let client = read_only(&inside, STEP).await?;
    if state.owner_role.is_some() && state.service_role.is_some() {
        let rights = client
            .query_opt(RIGHTS, &[&spec.owner, &spec.service])
            .await
            .map_err(failed(&inside, STEP))?;
        state.rights = rights.is_some_and(|row| row.get::<_, Option<String>>(0).as_deref() == Some("true"));
    }
    state.migrations = migrations(&client, &inside).await?;
    Ok(Some(state))
}

/// The migrations that a database has: name → checksum.
pub async fn applied_migrations(access: &Access) -> Result<BTreeMap<String, String>, DatabaseError> {
    let client = read_only(access, "reading the applied migrations").await?;
    migrations(&client, access).await
}

/// The schema as the catalogue has it, whatever migrations say: `table NAME`, `column TABLE.NAME`, `index NAME`…, each
/// with its definition. Without the platform's own schema and without who owns what.
pub async fn schema(access: &Access) -> Result<BTreeMap<String, String>, DatabaseError> {
    const STEP: &str = "reading the schema";
    // What the application made.
    const OWN: &str = "n.nspname NOT IN ('pg_catalog', 'information_schema', 'astraler')
                       AND n.nspname NOT LIKE 'pg\\_%'";
    let queries = [
        "SELECT CASE c.relkind WHEN 'v' THEN 'view ' WHEN 'm' THEN 'materialized view ' WHEN 'S' THEN 'sequence '
                               WHEN 'f' THEN 'foreign table ' ELSE 'table ' END || n.nspname || '.' || c.relname,
                CASE WHEN c.relkind IN ('v', 'm') THEN pg_get_viewdef(c.oid)
                     WHEN c.relrowsecurity THEN 'row security' ELSE '' END
         FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
         WHERE c.relkind IN ('r', 'p', 'v', 'm', 'S', 'f') AND $own",
        "SELECT 'column ' || n.nspname || '.' || c.relname || '.' || a.attname,
                format_type(a.atttypid, a.atttypmod)
                || CASE WHEN a.attnotnull THEN ' not null' ELSE '' END
                || CASE a.attidentity WHEN '' THEN '' ELSE ' identity ' || a.attidentity::text END
                || CASE a.attgenerated WHEN '' THEN '' ELSE ' generated' END
                || coalesce(' default ' || pg_get_expr(d.adbin, d.adrelid), '')
         FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
         LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
         WHERE a.attnum > 0 AND NOT a.attisdropped AND c.relkind IN ('r', 'p', 'f') AND $own",
        "SELECT 'index ' || n.nspname || '.' || c.relname,
                pg_get_indexdef(c.oid) || CASE WHEN i.indisvalid THEN '' ELSE ' (invalid)' END
         FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_namespace n ON n.oid = c.relnamespace
         WHERE $own",
        "SELECT 'constraint ' || n.nspname || '.' || coalesce(c.relname || '.', '') || k.conname,
                pg_get_constraintdef(k.oid) || CASE WHEN k.convalidated THEN '' ELSE ' (not validated)' END
         FROM pg_constraint k JOIN pg_namespace n ON n.oid = k.connamespace
         LEFT JOIN pg_class c ON c.oid = k.conrelid WHERE $own",
        "SELECT 'trigger ' || n.nspname || '.' || c.relname || '.' || t.tgname, pg_get_triggerdef(t.oid)
         FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid JOIN pg_namespace n ON n.oid = c.relnamespace
         WHERE NOT t.tgisinternal AND $own",
        "SELECT 'function ' || n.nspname || '.' || p.proname || '(' || pg_get_function_identity_arguments(p.oid) || ')',
                md5(coalesce(p.prosrc, '')) || ' ' || pg_get_function_result(p.oid)
         FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
         WHERE p.prokind IN ('f', 'p') AND $own
           AND NOT EXISTS (SELECT FROM pg_depend e WHERE e.objid = p.oid AND e.deptype = 'e')",
        "SELECT 'enum ' || n.nspname || '.' || t.typname, string_agg(e.enumlabel, ', ' ORDER BY e.enumsortorder)
         FROM pg_enum e JOIN pg_type t ON t.oid = e.enumtypid JOIN pg_namespace n ON n.oid = t.typnamespace
         WHERE $own GROUP BY 1",
        "SELECT 'policy ' || n.nspname || '.' || c.relname || '.' || p.polname,
                p.polcmd::text || coalesce(' using ' || pg_get_expr(p.polqual, p.polrelid), '')
                || coalesce(' check ' || pg_get_expr(p.polwithcheck, p.polrelid), '')
         FROM pg_policy p JOIN pg_class c ON c.oid = p.polrelid JOIN pg_namespace n ON n.oid = c.relnamespace
         WHERE $own",
        "SELECT 'extension ' || extname, extversion FROM pg_extension",
    ];
    let client = read_only(access, STEP).await?;
    let mut all = BTreeMap::new();
    for query in queries {
        let found = rows(&client, access, STEP, &query.replace("$own", OWN), &[]).await?;
        all.extend(
            found
                .into_iter()
                .map(|(name, definition)| (name, definition.trim().to_owned())),
        );
    }
    Ok(all)
}

/// No environment may take every connection: some always remain for migrations, backups and people.
pub fn role_limits(cluster: astraler_model::Cluster, max_connections: u32) -> RoleLimits {
    let service = match cluster {
        astraler_model::Cluster::Production => max_connections.saturating_sub(16),
        astraler_model::Cluster::Shared => max_connections / 2,
    };
    RoleLimits {
        owner: 8,
        service: service.max(4),
    }
}

async fn role(
    client: &Client,
    access: &Access,
    name: &str,
    password: &str,
) -> Result<Option<RoleState>, DatabaseError> {
    const STEP: &str = "reading a role";
    let row = client
        .query_opt(
            "SELECT rolcanlogin AND NOT rolsuper AND NOT rolcreatedb AND NOT rolcreaterole AND NOT rolreplication
                    AND NOT rolbypassrls AND rolinherit,
                    rolconnlimit::int8, coalesce(rolpassword, '')
             FROM pg_authid WHERE rolname = $1",
            &[&name],
        )
        .await
        .map_err(failed(access, STEP))?;
    Ok(row.map(|row| RoleState {
        plain: row.get(0),
        connection_limit: row.get(1),
        password_matches: scram::matches(row.get::<_, &str>(2), password),
    }))
}

async fn migrations(client: &Client, access: &Access) -> Result<BTreeMap<String, String>, DatabaseError> {
    const STEP: &str = "reading the applied migrations";
    let there = client
        .query_one(
            "SELECT to_regclass('astraler.schema_migrations') IS NOT NULL",
            &[],
        )
        .await
        .map_err(failed(access, STEP))?;
    if !there.get::<_, bool>(0) {
        return Ok(BTreeMap::new());
    }
    let found = rows(
        client,
        access,
        STEP,
        "SELECT name, checksum FROM astraler.schema_migrations",
        &[],
    )
    .await?;
    Ok(found.into_iter().collect())
}

/// A session in which nothing can be changed.
async fn read_only(access: &Access, step: &'static str) -> Result<Client, DatabaseError> {
    let client = connect(access).await?;
    client
        .batch_execute("SET default_transaction_read_only = on; SET statement_timeout = '30s'")
        .await
        .map_err(failed(access, step))?;
    Ok(client)
}

async fn rows(
    client: &Client,
    access: &Access,
    step: &'static str,
    sql: &str,
    with: &[&(dyn ToSql + Sync)],
) -> Result<Vec<(String, String)>, DatabaseError> {
    let found = client.query(sql, with).await.map_err(failed(access, step))?;
    Ok(found.iter().map(|row: &Row| (row.get(0), row.get(1))).collect())
}
