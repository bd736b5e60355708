//! One environment's database and its two roles, kept apart from every other environment's.

use crate::access::{Access, AccessError, connect};
use crate::inspect::{RoleLimits, role_limits};
use crate::scram;
use astraler_model::{Cluster, Environment};
use tokio_postgres::Client;

/// What an environment's database must look like.
#[derive(Clone, PartialEq, Eq)]
pub struct DatabaseSpec {
    /// The environment; the database bears its [`Environment::identifier`].
    pub environment: Environment,
    /// Role that owns the database and runs migrations.
    pub owner: String,
    /// Its password.
    pub owner_password: String,
    /// Role of the environment's services: reads and writes rows, changes no schema.
    pub service: String,
    /// Its password.
    pub service_password: String,
    /// Longest statement of the service role, in milliseconds; 0 is no limit.
    pub statement_timeout_ms: u64,
}

/// What had to be done.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Changes {
    /// Each change in words; empty when everything was as it should be.
    pub made: Vec<String>,
}

impl Changes {
    /// Whether anything changed.
    pub fn any(&self) -> bool {
        !self.made.is_empty()
    }
}

/// A database or role could not be brought into shape.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseError {
    /// The server could not be reached.
    #[error(transparent)]
    Access(#[from] AccessError),
    /// A statement failed.
    #[error("{step} in database `{database}`")]
    Statement {
        /// What was being done.
        step: &'static str,
        /// Where.
        database: String,
        /// Why it failed.
        #[source]
        source: Box<tokio_postgres::Error>,
    },
}

/// Key of the advisory lock under which databases and roles are changed: `astraler`, in ASCII.
pub(crate) const LOCK: i64 = 0x6173_7472_616c_6572;

/// Creates or repairs the environment's roles, database and rights. Changes nothing that is already right.
/// `admin` is the superuser's way into the database `postgres` of the environment's cluster.
pub async fn ensure_database(admin: &Access, spec: &DatabaseSpec) -> Result<Changes, DatabaseError> {
    let database = spec.environment.identifier();
    let server = Session::open(admin).await?;
    let mut changes = Changes::default();

    // One at a time: roles and databases are shared by the whole cluster. Ends with the session.
    server
        .run(
            "waiting for another change of databases",
            &format!("SELECT pg_advisory_lock({LOCK})"),
        )
        .await?;
    server
        .run(
            "closing the administrative databases",
            "REVOKE ALL ON DATABASE postgres, template1 FROM PUBLIC",
        )
        .await?;
    let limits = connection_limits(&server, spec.environment.cluster()).await?;
    changes.made.extend(ensure_owner(&server, spec).await?.made);
    ensure_role(
        &server,
        &spec.service,
        &spec.service_password,
        limits.service,
        &mut changes,
    )
    .await?;
    create_database(&server, &database, &spec.owner, &mut changes).await?;
    ensure_settings(&server, &database, spec, &mut changes).await?;

    let inside = Session::open(&Access {
        database: database.clone(),
        ..admin.clone()
    })
    .await?;
    ensure_rights(&inside, spec, &mut changes).await?;
    Ok(changes)
}

/// Creates or repairs the role that owns the environment's database.
pub(crate) async fn ensure_owner(server: &Session, spec: &DatabaseSpec) -> Result<Changes, DatabaseError> {
    let mut changes = Changes::default();
    let limits = connection_limits(server, spec.environment.cluster()).await?;
    let (owner, password) = (&spec.owner, &spec.owner_password);
    ensure_role(server, owner, password, limits.owner, &mut changes).await?;
    Ok(changes)
}

/// Name of a preview's database until its copy is whole.
pub(crate) fn copying(environment: Environment) -> String {
    format!("{}_copying", environment.identifier())
}

/// Removes the environment's database and roles with everything in them, and a copy that was interrupted. Sessions are
/// ended.
pub async fn drop_database(admin: &Access, spec: &DatabaseSpec) -> Result<(), DatabaseError> {
    let server = Session::open(admin).await?;
    server
        .run(
            "waiting for another change of databases",
            &format!("SELECT pg_advisory_lock({LOCK})"),
        )
        .await?;
    let database = spec.environment.identifier();
    let aside = [crate::swap::recovering(&database), crate::swap::before(&database)];
    for database in [database, copying(spec.environment)].into_iter().chain(aside) {
        let database = identifier(&database);
        server
            .run(
                "dropping the database",
                &format!("DROP DATABASE IF EXISTS {database} WITH (FORCE)"),
            )
            .await?;
    }
    for role in [&spec.service, &spec.owner] {
        server
            .run(
                "dropping a role",
                &format!("DROP ROLE IF EXISTS {}", identifier(role)),
            )
            .await?;
    }
    Ok(())
}

/// A connection that says where and at which step a statement failed.
pub(crate) struct Session {
    pub(crate) client: Client,
    database: String,
}

impl Session {
    pub(crate) async fn open(access: &Access) -> Result<Self, AccessError> {
        Ok(Self {
            client: connect(access).await?,
            database: access.database.clone(),
        })
    }

    pub(crate) async fn run(&self, step: &'static str, sql: &str) -> Result<(), DatabaseError> {
        self.client
            .batch_execute(sql)
            .await
            .map_err(|source| self.failed(step, source))
    }

    /// The first column of the first row, as text.
    pub(crate) async fn ask(
        &self,
        step: &'static str,
        sql: &str,
        with: &[&str],
    ) -> Result<Option<String>, DatabaseError> {
        let parameters: Vec<_> = with
            .iter()
            .map(|value| value as &(dyn tokio_postgres::types::ToSql + Sync))
            .collect();
        let row = self
            .client
            .query_opt(sql, &parameters)
            .await
            .map_err(|source| self.failed(step, source))?;
        Ok(row.and_then(|row| row.get(0)))
    }

    pub(crate) fn failed(&self, step: &'static str, source: tokio_postgres::Error) -> DatabaseError {
        DatabaseError::Statement {
            step,
            database: self.database.clone(),
            source: Box::new(source),
        }
    }
}

/// The limits that follow from the connections in force.
async fn connection_limits(server: &Session, cluster: Cluster) -> Result<RoleLimits, DatabaseError> {
    let max = server
        .ask(
            "reading max_connections",
            "SELECT current_setting('max_connections')",
            &[],
        )
        .await?
        .and_then(|text| text.parse().ok())
        .unwrap_or(100u32);
    Ok(role_limits(cluster, max))
}

pub(crate) async fn ensure_role(
    server: &Session,
    name: &str,
    password: &str,
    connections: u32,
    changes: &mut Changes,
) -> Result<(), DatabaseError> {
    const STEP: &str = "creating or repairing a role";
    let role = identifier(name);
    let wanted = format!(
        "LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS INHERIT CONNECTION LIMIT {connections}"
    );
    let found = server
        .ask(
            STEP,
            "SELECT coalesce(rolpassword, '') || ' ' ||
                    (rolcanlogin AND NOT rolsuper AND NOT rolcreatedb AND NOT rolcreaterole
                     AND NOT rolreplication AND NOT rolbypassrls AND rolinherit)::text || ' ' || rolconnlimit
             FROM pg_authid WHERE rolname = $1",
            &[name],
        )
        .await?;
    let Some(found) = found else {
        let verifier = scram::verifier(password);
        server
            .run(
                STEP,
                &format!("CREATE ROLE {role} {wanted} PASSWORD {}", literal(&verifier)),
            )
            .await?;
        changes.made.push(format!("role {name} created"));
        return Ok(());
    };
    let mut words = found.split(' ');
    let stored = words.next().unwrap_or_default();
    if !scram::matches(stored, password) {
        let verifier = scram::verifier(password);
        server
            .run(
                STEP,
                &format!("ALTER ROLE {role} PASSWORD {}", literal(&verifier)),
            )
            .await?;
        changes.made.push(format!("password of role {name} changed"));
    }
    if words.next() != Some("true") || words.next() != Some(&connections.to_string()) {
        server.run(STEP, &format!("ALTER ROLE {role} {wanted}")).await?;
        changes.made.push(format!("attributes of role {name} repaired"));
    }
    Ok(())
}

async fn create_database(
    server: &Session,
    name: &str,
    owner: &str,
    changes: &mut Changes,
) -> Result<(), DatabaseError> {
    const STEP: &str = "creating the database";
    let database = identifier(name);
    let owned_by = server
        .ask(
            STEP,
            "SELECT pg_get_userbyid(datdba)::text FROM pg_database WHERE datname = $1",
            &[name],
        )
        .await?;
    match owned_by {
        None => {
            let role = identifier(owner);
            let sql = format!("CREATE DATABASE {database} OWNER {role} TEMPLATE template0 ENCODING 'UTF8'");
            server.run(STEP, &sql).await?;
            changes.made.push(format!("database {name} created"));
        }
        Some(other) if other != owner => {
            server
                .run(
                    STEP,
                    &format!("ALTER DATABASE {database} OWNER TO {}", identifier(owner)),
                )
                .await?;
            changes.made.push(format!("database {name} given to {owner}"));
        }
        Some(_) => {}
    }
    Ok(())
}

/// The service role's deadlines in its database, in milliseconds.
pub fn service_settings(statement_timeout_ms: u64) -> [(&'static str, u64); 3] {
    [
        ("statement_timeout", statement_timeout_ms),
        ("lock_timeout", 10_000),
        ("idle_in_transaction_session_timeout", 60_000),
    ]
}

/// Who may connect, and the service role's deadlines.
async fn ensure_settings(
    server: &Session,
    name: &str,
    spec: &DatabaseSpec,
    changes: &mut Changes,
) -> Result<(), DatabaseError> {
    const STEP: &str = "setting who may connect";
    let (database, service) = (identifier(name), identifier(&spec.service));
    // Without CONNECT for PUBLIC, another environment's roles cannot enter; without TEMPORARY, a service
    // cannot leave tables behind in a pooled connection.
    server
        .run(
            STEP,
            &format!(
                "REVOKE ALL ON DATABASE {database} FROM PUBLIC; GRANT CONNECT ON DATABASE {database} TO {service}"
            ),
        )
        .await?;
    let found = server
        .ask(
            STEP,
            "SELECT coalesce(array_to_string(setconfig, ','), '') FROM pg_db_role_setting s
             JOIN pg_database d ON d.oid = s.setdatabase JOIN pg_roles r ON r.oid = s.setrole
             WHERE d.datname = $1 AND r.rolname = $2",
            &[name, &spec.service],
        )
        .await?;
    let wanted = service_settings(spec.statement_timeout_ms);
    let words: Vec<String> = wanted
        .iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    if found.as_deref() != Some(words.join(",").as_str()) {
        let mut sql = format!("ALTER ROLE {service} IN DATABASE {database} RESET ALL;");
        for (setting, value) in wanted {
            sql.push_str(&format!(
                "ALTER ROLE {service} IN DATABASE {database} SET {setting} = {value};"
            ));
        }
        server.run(STEP, &sql).await?;
        changes
            .made
            .push(format!("deadlines of role {} set", spec.service));
    }
    take_back_settings(server, name, spec, changes).await
}

/// Settings that nobody but a person can have made: they would outlive every change of the manifest.
async fn take_back_settings(
    server: &Session,
    name: &str,
    spec: &DatabaseSpec,
    changes: &mut Changes,
) -> Result<(), DatabaseError> {
    const STEP: &str = "taking back settings that were made by hand";
    let database = identifier(name);
    let (owner, service) = (identifier(&spec.owner), identifier(&spec.service));
    for (condition, with, statement) in [
        (
            "s.setdatabase = 0 AND r.rolname = $1",
            &spec.owner,
            format!("ALTER ROLE {owner} RESET ALL"),
        ),
        (
            "s.setdatabase = 0 AND r.rolname = $1",
            &spec.service,
            format!("ALTER ROLE {service} RESET ALL"),
        ),
        (
            "d.datname = $2 AND r.rolname = $1",
            &spec.owner,
            format!("ALTER ROLE {owner} IN DATABASE {database} RESET ALL"),
        ),
        (
            "s.setrole = 0 AND d.datname = $2 AND $1 != ''",
            &spec.owner,
            format!("ALTER DATABASE {database} RESET ALL"),
        ),
    ] {
        let sql = format!(
            "SELECT 'there' FROM pg_db_role_setting s
             LEFT JOIN pg_database d ON d.oid = s.setdatabase LEFT JOIN pg_roles r ON r.oid = s.setrole
             WHERE {condition} AND coalesce(d.datname, $2) = $2 LIMIT 1"
        );
        if server.ask(STEP, &sql, &[with, name]).await?.is_some() {
            server.run(STEP, &statement).await?;
            changes.made.push(statement);
        }
    }
    Ok(())
}

/// Whether the rights on the schema `public` are in place, for an owner and a service.
pub(crate) const RIGHTS: &str = "SELECT (pg_get_userbyid(n.nspowner) = $1
             AND has_schema_privilege($2, n.oid, 'USAGE') AND NOT has_schema_privilege($2, n.oid, 'CREATE')
             AND EXISTS (SELECT FROM pg_default_acl a WHERE a.defaclrole = n.nspowner
                         AND a.defaclnamespace = n.oid AND a.defaclobjtype = 'r')
             AND EXISTS (SELECT FROM pg_default_acl a WHERE a.defaclrole = n.nspowner
                         AND a.defaclnamespace = n.oid AND a.defaclobjtype = 'S')
             AND EXISTS (SELECT FROM pg_namespace p WHERE p.nspname = 'astraler'))::text
     FROM pg_namespace n WHERE n.nspname = 'public'";

/// An error of a statement at a step.
pub(crate) fn failed(
    access: &Access,
    step: &'static str,
) -> impl FnOnce(tokio_postgres::Error) -> DatabaseError {
    let database = access.database.clone();
    move |source| DatabaseError::Statement {
        step,
        database,
        source: Box::new(source),
    }
}

/// Rights inside the database. Granting again what is granted changes nothing, so that only the question of
/// whether it was needed is asked first.
async fn ensure_rights(
    inside: &Session,
    spec: &DatabaseSpec,
    changes: &mut Changes,
) -> Result<(), DatabaseError> {
    const STEP: &str = "granting rights";
    let (owner, service) = (identifier(&spec.owner), identifier(&spec.service));
    let in_place = inside.ask(STEP, RIGHTS, &[&spec.owner, &spec.service]).await?;
    inside
        .run(
            STEP,
            &format!(
                "BEGIN;
                 CREATE SCHEMA IF NOT EXISTS public;
                 ALTER SCHEMA public OWNER TO {owner};
                 REVOKE ALL ON SCHEMA public FROM PUBLIC;
                 REVOKE CREATE ON SCHEMA public FROM {service};
                 GRANT USAGE ON SCHEMA public TO {service};
                 GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {service};
                 GRANT USAGE, SELECT ON ALL SEQUENCES IN SCHEMA public TO {service};
                 ALTER DEFAULT PRIVILEGES FOR ROLE {owner} IN SCHEMA public
                     GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO {service};
                 ALTER DEFAULT PRIVILEGES FOR ROLE {owner} IN SCHEMA public
                     GRANT USAGE, SELECT ON SEQUENCES TO {service};
                 CREATE SCHEMA IF NOT EXISTS astraler AUTHORIZATION {owner};
                 COMMIT"
            ),
        )
        .await?;
    if in_place.as_deref() != Some("true") {
        changes
            .made
            .push(format!("rights in database {} granted", inside.database));
    }
    Ok(())
}

/// Quoted as an identifier.
pub(crate) fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Quoted as a string literal (`standard_conforming_strings` is on).
fn literal(value: &str) -> String {
    format!("'{}'", value.replace('\'', "''"))
}
