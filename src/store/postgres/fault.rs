//! A **fault**: what Postgres or the way to it said, sorted by what the caller does about it.
//!
//! Invariant: trouble of the infrastructure never reads as a refused row, and a refused row never as trouble that passes.

use super::super::Error;
use std::error::Error as _;
use tokio_postgres::error::SqlState;

/// What a step of a call fails with, before it is known whose it was.
#[derive(Debug)]
pub(super) enum Fault {
    Pg(tokio_postgres::Error),
    Store(Error),
}

impl From<tokio_postgres::Error> for Fault {
    fn from(error: tokio_postgres::Error) -> Self {
        Fault::Pg(error)
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Fault::Store(error)
    }
}

impl Fault {
    /// The words of a refusal that belongs to a row: data exceptions, constraint violations, limits of one value.
    pub fn of_a_row(&self) -> Option<String> {
        let Fault::Pg(error) = self else { return None };
        let state = error.code()?.code();
        ["22", "23", "54"].iter().any(|class| state.starts_with(class)).then(|| words(error))
    }

    /// What the server said: its SQLSTATE, and the words.
    pub fn said(&self) -> Option<(SqlState, String)> {
        let Fault::Pg(error) = self else { return None };
        Some((error.code()?.clone(), words(error)))
    }

    /// Lost a race for locks; nothing is wrong and the same may be tried at once.
    pub fn is_race(&self) -> bool {
        let Fault::Pg(error) = self else { return false };
        matches!(error.code(), Some(code) if *code == SqlState::T_R_SERIALIZATION_FAILURE || *code == SqlState::T_R_DEADLOCK_DETECTED)
    }

    /// A lock that somebody else holds.
    pub fn is_busy(&self) -> bool {
        matches!(self, Fault::Pg(error) if error.code() == Some(&SqlState::LOCK_NOT_AVAILABLE))
    }

    /// Whether the server turned the connection away for how it came: without TLS, or with it.
    pub fn is_refused_route(&self) -> bool {
        let Fault::Pg(error) = self else { return false };
        error.code() == Some(&SqlState::INVALID_AUTHORIZATION_SPECIFICATION) || of_tls(error)
    }

    /// As the port says it. `place` names server, database and user.
    pub fn at(self, place: &str) -> Error {
        let error = match self {
            Fault::Store(error) => return error,
            Fault::Pg(error) => error,
        };
        let words = words(&error);
        let Some(state) = error.code() else {
            let text = error.to_string();
            if of_tls(&error) {
                return Error::Fatal(format!("{place}: no TLS as sslmode asks for it: {words}"));
            }
            if text.starts_with("invalid configuration") {
                return Error::Fatal(format!("{place}: {words}: give it in [store] url or password_file"));
            }
            return Error::Passing(format!("{place}: {words}"));
        };
        let todo = match state.code() {
            "25006" => "the database is read-only: point [store] url at the primary, or end default_transaction_read_only",
            "28P01" | "28000" => {
                "the server turns this user or password away: see [store] url and password_file, and pg_hba.conf"
            }
            "3D000" => "create the database (createdb), or name another in [store] url",
            "42501" => "the role lacks a right: see \"Rights in Postgres\" in docs/operations.md",
            "XX001" | "XX002" => "the database is damaged: restore it",
            code if code.starts_with("42") || code.starts_with("3F") => {
                "the schema is not as huntline made it: run `huntline migrate`"
            }
            code if ["28", "0A", "22", "23", "54"].iter().any(|class| code.starts_with(class)) => "this needs an operator",
            _ => return Error::Passing(format!("{place}: {words}")),
        };
        Error::Fatal(format!("{place}: {words}: {todo}"))
    }
}

/// The server's message with its SQLSTATE, or the whole chain of causes.
fn words(error: &tokio_postgres::Error) -> String {
    if let Some(db) = error.as_db_error() {
        let detail = db.detail().map(|detail| format!(" ({detail})")).unwrap_or_default();
        return format!("{}{detail} [{}]", db.message(), db.code().code());
    }
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let inner_text = inner.to_string();
        if !text.contains(&inner_text) {
            text = format!("{text}: {inner_text}");
        }
        cause = inner.source();
    }
    text
}

fn of_tls(error: &tokio_postgres::Error) -> bool {
    let mut cause = error.source();
    while let Some(inner) = cause {
        let inside = inner.downcast_ref::<std::io::Error>().and_then(|io| io.get_ref());
        if inner.is::<rustls::Error>() || inside.is_some_and(|inside| inside.is::<rustls::Error>()) {
            return true;
        }
        if inner.to_string().contains("does not support TLS") {
            return true;
        }
        cause = inner.source();
    }
    false
}
