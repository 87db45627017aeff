//! Registered users, and the ids of tokens that are refused for good.

use std::collections::HashSet;

use rusqlite::{Connection, OptionalExtension, params};

use crate::clock;

/// A registered user.
#[derive(Clone, Debug)]
pub(crate) struct Account {
    pub(crate) id: String,
    pub(crate) email: String,
    pub(crate) name: String,
    pub(crate) salt: Vec<u8>,
    pub(crate) hash: Vec<u8>,
}

/// Adds the account; `false` when the e-mail is taken.
pub(crate) fn add(db: &Connection, account: &Account) -> rusqlite::Result<bool> {
    let added = db
        .prepare("INSERT OR IGNORE INTO accounts (id, email, name, salt, hash, created_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6)")?
        .execute(params![account.id, account.email, account.name, account.salt, account.hash, clock::seconds()])?;
    Ok(added == 1)
}

pub(crate) fn find(db: &Connection, email: &str) -> rusqlite::Result<Option<Account>> {
    db.prepare("SELECT id, email, name, salt, hash FROM accounts WHERE email = ?1")?
        .query_row([email], |row| {
            Ok(Account { id: row.get(0)?, email: row.get(1)?, name: row.get(2)?, salt: row.get(3)?, hash: row.get(4)? })
        })
        .optional()
}

/// Refuses the token for good; `false` when it was refused already. Being first is what makes a refresh single use.
pub(crate) fn revoke(db: &Connection, jti: &str, expires_at: i64) -> rusqlite::Result<bool> {
    let added = db.prepare("INSERT OR IGNORE INTO revoked (jti, expires_at) VALUES (?1, ?2)")?.execute(params![jti, expires_at])?;
    Ok(added == 1)
}

/// The ids of refused tokens that have not expired anyway.
pub(crate) fn revoked(db: &Connection) -> rusqlite::Result<HashSet<String>> {
    db.execute("DELETE FROM revoked WHERE expires_at <= ?1", [clock::seconds()])?;
    db.prepare("SELECT jti FROM revoked")?.query_map([], |row| row.get(0))?.collect()
}
