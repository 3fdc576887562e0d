//! The **client** of a session: the server, spoken to in the schema where this store stands.
//!
//! Every text of this folder, the migrations too, names its relations `huntline.…`. A store that is built beside the one in use has the
//! same relations in the schema `huntline_rebuild`: its client puts that name in the qualifier's place as a text goes out, and nobody
//! else knows of it. Invariant: no text reaches the server but through here.
//!
//! Why not `search_path`: it is a setting of the session, which a pooler may lose without a word, and then a rebuild writes into the
//! store in use. What the server keeps of a text, it keeps by object (views, keys), and so follows relations that move.
//! The body of an SQL function is kept as text: none may name a relation.

use std::borrow::Cow;
use tokio_postgres::types::{BorrowToSql, ToSql};
use tokio_postgres::{Error, Row, RowStream, SimpleQueryMessage, Statement, ToStatement};

/// The schema of the store in use.
pub(super) const HOME: &str = "huntline";
/// The schema of a store that is built beside it.
pub(super) const BESIDE: &str = "huntline_rebuild";

pub(super) struct Client {
    inner: tokio_postgres::Client,
    /// [`HOME`] or [`BESIDE`].
    pub schema: &'static str,
}

/// What a query is asked by: a text, or what was prepared from one.
pub(super) trait Question: ToStatement + Sync {
    fn text(&self) -> Option<&str>;
}

impl Question for str {
    fn text(&self) -> Option<&str> {
        Some(self)
    }
}

impl Question for String {
    fn text(&self) -> Option<&str> {
        Some(self)
    }
}

impl Question for Statement {
    fn text(&self) -> Option<&str> {
        None
    }
}

/// The call of the same name, its text in the client's schema.
macro_rules! ask {
    ($($name:ident -> $answer:ty)*) => {$(
        pub async fn $name<Q: ?Sized + Question>(&self, question: &Q, parameters: &[&(dyn ToSql + Sync)]) -> Result<$answer, Error> {
            match question.text().filter(|_| self.schema != HOME) {
                Some(text) => self.inner.$name(&*in_schema(text, self.schema), parameters).await,
                None => self.inner.$name(question, parameters).await,
            }
        }
    )*};
}

impl Client {
    pub fn new(inner: tokio_postgres::Client, schema: &'static str) -> Self {
        Self { inner, schema }
    }

    ask! {
        query -> Vec<Row>
        query_one -> Row
        query_opt -> Option<Row>
        execute -> u64
    }

    /// Rows as they come, of a statement prepared before.
    pub async fn query_raw<P: BorrowToSql>(&self, statement: &Statement, parameters: Vec<P>) -> Result<RowStream, Error> {
        self.inner.query_raw(statement, parameters).await
    }

    pub async fn prepare(&self, text: &str) -> Result<Statement, Error> {
        self.inner.prepare(&in_schema(text, self.schema)).await
    }

    pub async fn batch_execute(&self, text: &str) -> Result<(), Error> {
        self.inner.batch_execute(&in_schema(text, self.schema)).await
    }

    pub async fn simple_query(&self, text: &str) -> Result<Vec<SimpleQueryMessage>, Error> {
        self.inner.simple_query(&in_schema(text, self.schema)).await
    }

    pub fn is_closed(&self) -> bool {
        self.inner.is_closed()
    }
}

fn in_schema<'t>(text: &'t str, schema: &str) -> Cow<'t, str> {
    if schema == HOME { Cow::Borrowed(text) } else { Cow::Owned(text.replace("huntline.", &format!("{schema}."))) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_asked_in_the_schema_of_its_client() {
        let text = "SELECT huntline.watermark(1) FROM huntline.hunts, x.huntline";
        assert_eq!(in_schema(text, HOME), text);
        assert_eq!(in_schema(text, BESIDE), "SELECT huntline_rebuild.watermark(1) FROM huntline_rebuild.hunts, x.huntline");
    }
}
