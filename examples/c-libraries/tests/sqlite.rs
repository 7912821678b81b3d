//! SQLite under a limit. One test: its allocator is the process's.

mod support;

use libsqlite3_sys::*;
use offheap::system_memory_pool;
use offheap_c_libraries::sqlite::install;
use std::ffi::{CStr, CString, c_int};
use std::ptr;
use support::Ballast;

struct Database(*mut sqlite3);

impl Database {
    fn open() -> Result<Self, c_int> {
        let mut database = ptr::null_mut();
        // SAFETY: a C string, and a place for the handle.
        let code = unsafe { sqlite3_open(c":memory:".as_ptr(), &mut database) };
        // Also after an error there may be a handle to close.
        let database = Self(database);
        if code == SQLITE_OK {
            Ok(database)
        } else {
            Err(code)
        }
    }

    fn run(&self, sql: &str) -> Result<(), c_int> {
        let sql = CString::new(sql).unwrap();
        // SAFETY: an open database and a C string; no callback.
        let code =
            unsafe { sqlite3_exec(self.0, sql.as_ptr(), None, ptr::null_mut(), ptr::null_mut()) };
        if code == SQLITE_OK { Ok(()) } else { Err(code) }
    }

    fn number(&self, sql: &CStr) -> i64 {
        let mut statement = ptr::null_mut();
        // SAFETY: an open database, a C string, and a statement that is used as it should.
        unsafe {
            let code =
                sqlite3_prepare_v2(self.0, sql.as_ptr(), -1, &mut statement, ptr::null_mut());
            assert_eq!(code, SQLITE_OK);
            assert_eq!(sqlite3_step(statement), SQLITE_ROW);
            let number = sqlite3_column_int64(statement, 0);
            sqlite3_finalize(statement);
            number
        }
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        // SAFETY: null, or a handle of `sqlite3_open` without statements.
        assert_eq!(unsafe { sqlite3_close(self.0) }, SQLITE_OK);
    }
}

/// Everything that the sweep below repeats.
fn work() -> Result<i64, c_int> {
    let database = Database::open()?;
    database.run("create table t (id integer primary key, name text)")?;
    database.run(
        "with recursive n(i) as (values (1) union all select i + 1 from n where i < 100)
         insert into t select i, 'row ' || i from n",
    )?;
    Ok(database.number(c"select count(*) from t where name like 'row %'"))
}

#[test]
fn a_database_lives_in_a_pool() {
    let pool = system_memory_pool().limit(8 << 20);
    assert_eq!(install(&pool), SQLITE_OK);
    let database = Database::open().unwrap();
    // Too late now.
    assert_eq!(install(&pool), SQLITE_MISUSE);

    // SQLite's own count is the pool's, to the byte.
    database.run("create table t (bytes blob)").unwrap();
    // SAFETY: no preconditions.
    let used = unsafe { sqlite3_memory_used() };
    assert_eq!(used as u64, pool.bytes_allocated());
    let before = pool.bytes_allocated();
    let rows = (0..)
        .take_while(
            |_| match database.run("insert into t values (zeroblob(100000))") {
                Ok(()) => true,
                Err(code) => {
                    assert_eq!(code, SQLITE_NOMEM);
                    false
                }
            },
        )
        .count();
    assert!((50..84).contains(&rows), "{rows}");
    assert!(pool.bytes_allocated() > before + 5_000_000);
    // The database has lost nothing, and answers.
    assert_eq!(database.number(c"select count(*) from t"), rows as i64);
    assert_eq!(
        database.number(c"select sum(length(bytes)) from t"),
        rows as i64 * 100_000
    );
    drop(database);

    // With every amount of memory from none on: SQLite's own error, and then success.
    assert_eq!(work(), Ok(100));
    let (mut refused, mut worked) = (0, 0);
    for left in (0..).step_by(2000) {
        let ballast = Ballast::leaving(&pool, left);
        let held = pool.bytes_allocated();
        match work() {
            Ok(rows) => {
                assert_eq!(rows, 100);
                worked += 1;
            }
            Err(code) => {
                assert_eq!(code, SQLITE_NOMEM, "{left} bytes");
                refused += 1;
            }
        }
        assert_eq!(pool.bytes_allocated(), held);
        drop(ballast);
        if worked == 5 {
            break;
        }
    }
    assert!(refused > 5, "{refused}");

    // SAFETY: every handle is closed.
    assert_eq!(unsafe { sqlite3_shutdown() }, SQLITE_OK);
    assert_eq!((pool.bytes_allocated(), pool.live_allocations()), (0, 0));
}
