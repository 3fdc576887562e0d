//! A store built **beside** the one in use, in the schema `huntline_rebuild`, and the transaction in which it takes its place.
//!
//! `rebuild` folds the log into it through the usual port ([`super::client`] keeps the two apart) while daemons go on with the old one.
//! Invariant: readers find the schema `huntline` whole at any moment, the old store's or the new; and no owner of the old store commits into the
//! new, for every partition's epoch there is above any it had.
//!
//! What hangs on the old relations and is not of huntline's making would be dropped with them: where there is such a thing, nothing is
//! begun, and nothing swapped.

use super::super::Error;
use super::client::{BESIDE, HOME};
use super::connect::Session;
use super::fault::Fault;
use super::schema::{self, LOCK};
use std::time::Duration;

/// How long between two attempts to get all the locks. Whoever reads waits behind an attempt, and gets in between two.
const PAUSE: Duration = Duration::from_millis(300);

/// Creates the empty schema, and gives its object id: the name alone could be another attempt's by the time of the swap.
pub(super) async fn create(session: &mut Session) -> Result<u32, Fault> {
    schema::begin_long(session).await?;
    session.client.query("SELECT pg_advisory_xact_lock($1)", &[&LOCK]).await?;
    owned(session).await?;
    session.client.batch_execute(&format!("DROP SCHEMA IF EXISTS {BESIDE} CASCADE; CREATE SCHEMA {BESIDE}")).await?;
    let id = id(session, BESIDE).await?.expect("the schema was created just now");
    session.client.batch_execute("COMMIT").await?;
    Ok(id)
}

/// Refuses what [`swap`] would refuse later.
pub(super) async fn check(session: &mut Session) -> Result<(), Fault> {
    let strangers = strangers(session).await?;
    if strangers.is_empty() { Ok(()) } else { Err(in_the_way(&strangers).into()) }
}

async fn id(session: &mut Session, schema: &str) -> Result<Option<u32>, Fault> {
    let row = session.client.query_opt("SELECT oid FROM pg_catalog.pg_namespace WHERE nspname = $1", &[&schema]).await?;
    Ok(row.map(|row| row.get(0)))
}

/// Only its owner may drop the old schema.
async fn owned(session: &mut Session) -> Result<(), Fault> {
    let row = session
        .client
        .query_opt(
            "SELECT pg_has_role(nspowner, 'USAGE'), pg_get_userbyid(nspowner)::text, current_user::text FROM pg_catalog.pg_namespace WHERE nspname = $1",
            &[&HOME],
        )
        .await?;
    match row {
        None => Err(Error::Fatal(format!("there is no schema {HOME} to build a new one beside: run `huntline migrate`")).into()),
        Some(row) if !row.get::<_, bool>(0) => {
            let (owner, user): (&str, &str) = (row.get(1), row.get(2));
            Err(Error::Fatal(format!(
                "the schema {HOME} belongs to {owner}, and {user} cannot put another in its place: rebuild as {owner}"
            ))
            .into())
        }
        Some(_) => Ok(()),
    }
}

/// What stands in the old schema, or outside but on its relations, and has no counterpart in the new one. (The summary is made when the new
/// store is bound.)
async fn strangers(session: &mut Session) -> Result<Vec<String>, Fault> {
    let rows = session
        .client
        .query(
            "SELECT format('%I.%I', n.nspname, c.relname) FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
              WHERE n.nspname = $1 AND c.relkind IN ('r', 'v', 'm', 'p', 'f', 'S') AND c.relname <> 'hunt_summary'
                AND NOT EXISTS (SELECT 1 FROM pg_catalog.pg_class o JOIN pg_catalog.pg_namespace b ON b.oid = o.relnamespace
                                 WHERE b.nspname = $2 AND o.relname = c.relname)
             UNION
             SELECT format('%I.%I', n.nspname, v.relname)
               FROM (SELECT d.refobjid AS on_what, r.ev_class AS what
                       FROM pg_catalog.pg_depend d JOIN pg_catalog.pg_rewrite r ON r.oid = d.objid
                      WHERE d.classid = 'pg_catalog.pg_rewrite'::regclass AND d.refclassid = 'pg_catalog.pg_class'::regclass
                     UNION
                     SELECT confrelid, conrelid FROM pg_catalog.pg_constraint WHERE contype = 'f'
                     UNION
                     SELECT inhparent, inhrelid FROM pg_catalog.pg_inherits) AS hangs
               JOIN pg_catalog.pg_class v ON v.oid = hangs.what
               JOIN pg_catalog.pg_namespace n ON n.oid = v.relnamespace
               JOIN pg_catalog.pg_class o ON o.oid = hangs.on_what
               JOIN pg_catalog.pg_namespace m ON m.oid = o.relnamespace
              WHERE m.nspname = $1 AND n.nspname <> $1
             ORDER BY 1",
            &[&HOME, &BESIDE],
        )
        .await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

fn in_the_way(strangers: &[String]) -> Error {
    Error::Fatal(format!(
        "{} would be dropped with the old store, for huntline did not make it: drop it yourself, and create it again after the rebuild",
        strangers.join(", ")
    ))
}

/// Puts the schema of this object id in the place of `huntline`. The session's texts are those of the store in use, and name both.
pub(super) async fn swap(session: &mut Session, created: u32) -> Result<(), Fault> {
    loop {
        let fault = match transact(session, created).await {
            Ok(()) => return Ok(()),
            Err(fault) => fault,
        };
        // A reader or a checkpoint held what this waited for; the call's deadline ends it.
        let again = fault.is_race() || fault.is_busy();
        if again || matches!(fault, Fault::Store(_)) {
            session.client.batch_execute("ROLLBACK").await?;
        }
        if !again {
            return Err(fault);
        }
        tokio::time::sleep(PAUSE).await;
    }
}

async fn transact(session: &mut Session, created: u32) -> Result<(), Fault> {
    schema::begin_long(session).await?;
    session.client.query("SELECT pg_advisory_xact_lock($1)", &[&LOCK]).await?;
    if id(session, HOME).await? == Some(created) {
        // It was swapped before; the answer was lost.
        return Ok(session.client.batch_execute("ROLLBACK").await?);
    }
    if id(session, BESIDE).await? != Some(created) {
        return Err(Error::Fatal(format!("the schema {BESIDE} is another rebuild's by now: nothing was swapped")).into());
    }
    owned(session).await?;
    // Checkpoints and claims begin at this table: those under way end first.
    session
        .client
        .batch_execute(
            "SET LOCAL lock_timeout = '3s'; LOCK TABLE huntline.partitions IN ACCESS EXCLUSIVE MODE;
             LOCK TABLE huntline_rebuild.partitions IN ACCESS EXCLUSIVE MODE",
        )
        .await?;
    check(session).await?;
    same_source(session).await?;
    carry_over(session).await?;
    let rights = rights(session).await?;
    session.client.batch_execute(&rights.join(";\n")).await?;
    // CASCADE, for the schema is not empty; what is in it and on it was looked at above.
    session
        .client
        .batch_execute("DROP SCHEMA huntline CASCADE; ALTER SCHEMA huntline_rebuild RENAME TO huntline; COMMIT")
        .await?;
    Ok(())
}

/// Both hold views of the same events.
async fn same_source(session: &mut Session) -> Result<(), Fault> {
    let ask = |schema: &str| format!(r#"SELECT cluster, "group" FROM {schema}.identity"#);
    let new = session.client.query_opt(&ask(BESIDE), &[]).await?;
    let Some(new) = new else { return Err(Error::Fatal("the store built beside was never bound".to_owned()).into()) };
    let Some(old) = session.client.query_opt(&ask(HOME), &[]).await? else { return Ok(()) };
    let differences: Vec<String> = ["cluster", "consumer group"]
        .iter()
        .enumerate()
        .map(|(column, what)| (what, old.get::<_, String>(column), new.get::<_, String>(column)))
        .filter(|(_, old, new)| old != new)
        .map(|(what, old, new)| format!("its {what} is {old:?}, that of the store built beside it {new:?}"))
        .collect();
    if differences.is_empty() { Ok(()) } else { Err(Error::Mismatch(differences).into()) }
}

/// What the new store takes over: epochs, operators' acts, and at what number its generations begin.
async fn carry_over(session: &mut Session) -> Result<(), Fault> {
    session
        .client
        .batch_execute(
            r#"INSERT INTO huntline_rebuild.partitions (topic, partition, epoch) SELECT topic, partition, epoch FROM huntline.partitions
               ON CONFLICT (topic, partition) DO UPDATE SET epoch = greatest(huntline_rebuild.partitions.epoch, excluded.epoch);
               UPDATE huntline_rebuild.partitions SET epoch = epoch + 1, owner = NULL, advertise = NULL, updated_at = now();

               INSERT INTO huntline_rebuild.acts (id, topic, partition, position, hunt_id, "offset", act, "by", asked_at, done_at, result)
                 OVERRIDING SYSTEM VALUE
                 SELECT id, topic, partition, position, hunt_id, "offset", act, "by", asked_at, done_at, result FROM huntline.acts;
               SELECT setval(pg_get_serial_sequence('huntline_rebuild.acts', 'id'), id) FROM huntline_rebuild.acts ORDER BY id DESC LIMIT 1;

               UPDATE huntline_rebuild.definition_positions SET number = -number;
               UPDATE huntline_rebuild.definitions SET number = -number;
               UPDATE huntline_rebuild.definition_positions SET number = (SELECT coalesce(max(number), 0) FROM huntline.definitions) - number;
               UPDATE huntline_rebuild.definitions SET number = (SELECT coalesce(max(number), 0) FROM huntline.definitions) - number"#,
        )
        .await?;
    Ok(())
}

/// The statements that give the new schema the old one's owners, grants and default privileges.
async fn rights(session: &mut Session) -> Result<Vec<String>, Fault> {
    const TO: &str = "CASE WHEN a.grantee = 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(a.grantee)) END, CASE WHEN a.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END";
    let sql = format!(
        "WITH old AS (SELECT oid, nspowner AS owner, nspacl AS acl FROM pg_catalog.pg_namespace WHERE nspname = '{HOME}'),
              new AS (SELECT oid, nspowner AS owner FROM pg_catalog.pg_namespace WHERE nspname = '{BESIDE}'),
              relations AS (SELECT o.oid, o.relname AS name, o.relkind AS kind, o.relowner AS owner, o.relacl AS acl, n.relowner AS new_owner
                              FROM pg_catalog.pg_class o JOIN pg_catalog.pg_class n ON n.relname = o.relname AND n.relkind = o.relkind
                             WHERE o.relnamespace = (SELECT oid FROM old) AND n.relnamespace = (SELECT oid FROM new) AND o.relkind IN ('r', 'v', 'S')),
              functions AS (SELECT format('%I(%s)', o.proname, pg_get_function_identity_arguments(o.oid)) AS name, o.proowner AS owner,
                                   o.proacl AS acl, n.proowner AS new_owner
                              FROM pg_catalog.pg_proc o JOIN pg_catalog.pg_proc n ON n.proname = o.proname AND n.proargtypes = o.proargtypes
                             WHERE o.pronamespace = (SELECT oid FROM old) AND n.pronamespace = (SELECT oid FROM new))
         SELECT sql FROM (
             SELECT 1 AS step, format('ALTER SCHEMA {BESIDE} OWNER TO %I', pg_get_userbyid(old.owner)) AS sql
               FROM old, new WHERE old.owner <> new.owner
             UNION ALL
             SELECT 2, format('ALTER TABLE {BESIDE}.%I OWNER TO %I', name, pg_get_userbyid(owner)) FROM relations WHERE kind <> 'S' AND owner <> new_owner
             UNION ALL
             SELECT 2, format('ALTER FUNCTION {BESIDE}.%s OWNER TO %I', name, pg_get_userbyid(owner)) FROM functions WHERE owner <> new_owner
             UNION ALL
             SELECT 3, format('GRANT %s ON SCHEMA {BESIDE} TO %s%s', a.privilege_type, {TO})
               FROM old, aclexplode(old.acl) AS a WHERE a.grantee <> old.owner
             UNION ALL
             SELECT 3, format('GRANT %s ON %s {BESIDE}.%I TO %s%s', a.privilege_type, CASE kind WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END, name, {TO})
               FROM relations, aclexplode(acl) AS a WHERE a.grantee <> owner
             UNION ALL
             SELECT 3, format('GRANT %s (%I) ON {BESIDE}.%I TO %s%s', a.privilege_type, c.attname, r.name, {TO})
               FROM relations r JOIN pg_catalog.pg_attribute c ON c.attrelid = r.oid AND NOT c.attisdropped, aclexplode(c.attacl) AS a
              WHERE a.grantee <> r.owner
             UNION ALL
             SELECT 3, format('GRANT %s ON FUNCTION {BESIDE}.%s TO %s%s', a.privilege_type, name, {TO})
               FROM functions, aclexplode(acl) AS a WHERE a.grantee <> owner
             UNION ALL
             SELECT 3, format('ALTER DEFAULT PRIVILEGES FOR ROLE %I IN SCHEMA {BESIDE} GRANT %s ON %s TO %s%s', pg_get_userbyid(d.defaclrole),
                        a.privilege_type, CASE d.defaclobjtype WHEN 'r' THEN 'TABLES' WHEN 'S' THEN 'SEQUENCES' WHEN 'f' THEN 'FUNCTIONS' ELSE 'TYPES' END, {TO})
               FROM pg_catalog.pg_default_acl d, aclexplode(d.defaclacl) AS a
              WHERE d.defaclnamespace = (SELECT oid FROM old) AND pg_has_role(d.defaclrole, 'USAGE')) AS statements
          ORDER BY step, sql"
    );
    let rows = session.client.query(&sql, &[]).await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}
