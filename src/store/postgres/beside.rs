//! A store built **beside** the one in use, in the schema `huntline_rebuild`, and the transaction in which it takes its place.
//!
//! `rebuild` folds the log into it through the usual port ([`super::client`] keeps the two apart) while daemons go on with the old one.
//! Invariant: readers find the relations of `huntline` whole at any moment, the old store's or the new; and no owner of the old store
//! commits into the new, for every partition's epoch there is above any it had.
//!
//! Why the relations move into `huntline`, and not the schema's name: whoever has looked that name up just before goes on with the old
//! schema, and is told that there are no relations in it (seen). A relation's name is looked up again after its lock was waited for. What
//! belongs to the schema itself (owner, grants, default privileges) thereby stays as it is.
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

/// Creates the empty schema, and gives its object id: the name alone may be another attempt's a moment later.
pub(super) async fn create(session: &mut Session) -> Result<u32, Fault> {
    schema::begin_long(session).await?;
    session.client.query("SELECT pg_advisory_xact_lock($1)", &[&LOCK]).await?;
    owned(session).await?;
    session.client.batch_execute(&format!("DROP SCHEMA IF EXISTS {BESIDE} CASCADE; CREATE SCHEMA {BESIDE}")).await?;
    let row = session.client.query_one("SELECT oid FROM pg_catalog.pg_namespace WHERE nspname = $1", &[&BESIDE]).await?;
    session.client.batch_execute("COMMIT").await?;
    Ok(row.get(0))
}

/// The object id of the relation by which the new store is known, wherever it stands. The schema was created as `created` and migrated
/// since. Refuses what [`swap`] would refuse later.
pub(super) async fn known_by(session: &mut Session, created: u32) -> Result<u32, Fault> {
    refuse_strangers(session).await?;
    let found = "SELECT oid FROM pg_catalog.pg_class WHERE relname = 'identity' AND relnamespace = $1";
    match session.client.query_opt(found, &[&created]).await? {
        Some(row) => Ok(row.get(0)),
        None => Err(another().into()),
    }
}

/// The object id of `identity` in a schema.
async fn identity(session: &mut Session, schema: &str) -> Result<Option<u32>, Fault> {
    let sql = "SELECT c.oid FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
                WHERE n.nspname = $1 AND c.relname = 'identity'";
    Ok(session.client.query_opt(sql, &[&schema]).await?.map(|row| row.get(0)))
}

fn another() -> Error {
    Error::Fatal(format!("the schema {BESIDE} is another rebuild's by now: this one ends, nothing was swapped"))
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

async fn refuse_strangers(session: &mut Session) -> Result<(), Fault> {
    let strangers = strangers(session).await?;
    if strangers.is_empty() {
        return Ok(());
    }
    Err(Error::Fatal(format!(
        "{} would be dropped with the old store, for huntline did not make it: drop it yourself, and create it again after the rebuild",
        strangers.join(", ")
    ))
    .into())
}

/// Puts the store known by this relation in the place of the one in use. The session's texts are those of the latter, and name both.
pub(super) async fn swap(session: &mut Session, known_by: u32) -> Result<(), Fault> {
    loop {
        let fault = match transact(session, known_by).await {
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

async fn transact(session: &mut Session, known_by: u32) -> Result<(), Fault> {
    schema::begin_long(session).await?;
    session.client.query("SELECT pg_advisory_xact_lock($1)", &[&LOCK]).await?;
    if identity(session, HOME).await? == Some(known_by) {
        // It was swapped before; the answer was lost.
        return Ok(session.client.batch_execute("ROLLBACK").await?);
    }
    if identity(session, BESIDE).await? != Some(known_by) {
        return Err(another().into());
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
    refuse_strangers(session).await?;
    same_source(session).await?;
    carry_over(session).await?;
    let rights = rights(session).await?;
    let moves = moves(session).await?;
    session.client.batch_execute(&moves.join(";\n")).await?;
    session.client.batch_execute(&rights.join(";\n")).await?;
    session.client.batch_execute("DROP SCHEMA huntline_rebuild; COMMIT").await?;
    Ok(())
}

/// The statements that drop what the old schema holds and move in what the new one does. Sequences and indexes go with their tables.
async fn moves(session: &mut Session) -> Result<Vec<String>, Fault> {
    let sql = "WITH things AS (
             SELECT CASE c.relkind WHEN 'v' THEN 1 ELSE 2 END AS step, CASE c.relkind WHEN 'v' THEN 'VIEW' ELSE 'TABLE' END AS kind,
                    n.nspname AS schema, format('%I.%I', n.nspname, c.relname) AS name
               FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
              WHERE n.nspname IN ($1, $2) AND c.relkind IN ('r', 'v')
             UNION ALL
             SELECT 3, 'FUNCTION', n.nspname, format('%I.%I(%s)', n.nspname, p.proname, pg_get_function_identity_arguments(p.oid))
               FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace WHERE n.nspname IN ($1, $2))
         SELECT sql FROM (
             SELECT step, format('DROP %s %s', kind, string_agg(name, ', ' ORDER BY name)) AS sql FROM things WHERE schema = $1 GROUP BY step, kind
             UNION ALL
             SELECT 4, format('ALTER %s %s SET SCHEMA %I', kind, name, $1) FROM things WHERE schema = $2) AS statements
          ORDER BY step, sql";
    let rows = session.client.query(sql, &[&HOME, &BESIDE]).await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
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

/// The statements that give what was moved in the owners and grants of what stood there under its name.
async fn rights(session: &mut Session) -> Result<Vec<String>, Fault> {
    const TO: &str = "CASE WHEN a.grantee = 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(a.grantee)) END, \
                      CASE WHEN a.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END";
    let sql = format!(
        "WITH relations AS (SELECT o.oid, o.relname AS name, o.relkind AS kind, o.relowner AS owner, o.relacl AS acl, n.relowner AS new_owner
                              FROM pg_catalog.pg_class o JOIN pg_catalog.pg_class n ON n.relname = o.relname AND n.relkind = o.relkind
                             WHERE o.relnamespace = '{HOME}'::regnamespace AND n.relnamespace = '{BESIDE}'::regnamespace
                               AND o.relkind IN ('r', 'v', 'S')),
              functions AS (SELECT format('%I(%s)', o.proname, pg_get_function_identity_arguments(o.oid)) AS name, o.proowner AS owner,
                                   o.proacl AS acl, n.proowner AS new_owner
                              FROM pg_catalog.pg_proc o JOIN pg_catalog.pg_proc n ON n.proname = o.proname AND n.proargtypes = o.proargtypes
                             WHERE o.pronamespace = '{HOME}'::regnamespace AND n.pronamespace = '{BESIDE}'::regnamespace)
         SELECT sql FROM (
             SELECT 1 AS step, format('ALTER TABLE {HOME}.%I OWNER TO %I', name, pg_get_userbyid(owner)) AS sql
               FROM relations WHERE kind <> 'S' AND owner <> new_owner
             UNION ALL
             SELECT 1, format('ALTER FUNCTION {HOME}.%s OWNER TO %I', name, pg_get_userbyid(owner)) FROM functions WHERE owner <> new_owner
             UNION ALL
             SELECT 2, format('GRANT %s ON %s {HOME}.%I TO %s%s', a.privilege_type, CASE kind WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END, name, {TO})
               FROM relations, aclexplode(acl) AS a WHERE a.grantee <> owner
             UNION ALL
             SELECT 2, format('GRANT %s (%I) ON {HOME}.%I TO %s%s', a.privilege_type, c.attname, r.name, {TO})
               FROM relations r JOIN pg_catalog.pg_attribute c ON c.attrelid = r.oid AND NOT c.attisdropped, aclexplode(c.attacl) AS a
              WHERE a.grantee <> r.owner
             UNION ALL
             SELECT 2, format('GRANT %s ON FUNCTION {HOME}.%s TO %s%s', a.privilege_type, name, {TO})
               FROM functions, aclexplode(acl) AS a WHERE a.grantee <> owner) AS statements
          ORDER BY step, sql"
    );
    let rows = session.client.query(&sql, &[]).await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}
