//! Roles that may not do all that is needed: the doctor's advice, followed to the letter, is the cure.

use std::time::Duration;

use stockhold_testkit::PostgresServer;

use super::{Looked, doctor, refusal, start, verify};
use crate::shopper::Shopper;

const TTL: Duration = Duration::from_secs(30);

/// The statements in an advice.
fn statements(advice: &str) -> String {
    let begin = advice.find("GRANT").unwrap();
    let end = advice.find("; or start").unwrap();
    advice[begin..end].to_owned()
}

/// A database, how it is made ready, and what the role lacks there.
struct Place {
    database: &'static str,
    set_up: &'static str,
    /// Where the owner's tables are.
    search_path: &'static str,
    lacks: &'static str,
    advice: &'static str,
}

const PLACES: [Place; 4] = [
    Place {
        database: "plain",
        set_up: "",
        search_path: "public",
        lacks: "\"Till-2\" lacks SELECT on stockhold_schema; SELECT, INSERT, UPDATE, DELETE on ",
        advice: "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO \"Till-2\"; \
            GRANT UPDATE ON ALL SEQUENCES IN SCHEMA public TO \"Till-2\"",
    },
    Place {
        database: "aside",
        set_up: "CREATE SCHEMA shop AUTHORIZATION keeper; \
            ALTER ROLE \"Till-2\" IN DATABASE aside SET search_path = shop, public",
        search_path: "shop",
        lacks: "USAGE on schema shop",
        advice: "GRANT USAGE ON SCHEMA shop TO \"Till-2\"; \
            GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA shop TO \"Till-2\"; \
            GRANT UPDATE ON ALL SEQUENCES IN SCHEMA shop TO \"Till-2\"",
    },
    Place {
        database: "own",
        set_up: "CREATE SCHEMA \"Till-2\" AUTHORIZATION keeper; \
            GRANT USAGE ON SCHEMA \"Till-2\" TO \"Till-2\"",
        search_path: "\"Till-2\"",
        lacks: "; UPDATE on sequence stock_item_seq",
        advice: "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA \"Till-2\" TO \"Till-2\"; \
            GRANT UPDATE ON ALL SEQUENCES IN SCHEMA \"Till-2\" TO \"Till-2\"",
    },
    Place {
        database: "strict",
        set_up: "ALTER DEFAULT PRIVILEGES FOR ROLE keeper REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC; \
            ALTER DEFAULT PRIVILEGES FOR ROLE keeper \
            GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO \"Till-2\"; \
            ALTER DEFAULT PRIVILEGES FOR ROLE keeper GRANT UPDATE ON SEQUENCES TO \"Till-2\"",
        search_path: "public",
        lacks: "\"Till-2\" lacks EXECUTE on ",
        advice: "GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA public TO \"Till-2\"",
    },
];

/// The owner, who makes the tables, is no superuser.
fn make_ready(postgres: &PostgresServer, place: &Place) -> [String; 2] {
    postgres.create_database(place.database);
    let url = postgres.url_of(place.database);
    let set_up = format!("GRANT CREATE ON SCHEMA public TO keeper; {}", place.set_up);
    postgres.psql_at(&url, &set_up).unwrap();
    let by = |role: &str| url.replace("postgres@", &format!("{role}@"));
    let path = place.search_path.replace('"', "%22");
    [format!("{}&options=-csearch_path%3D{path}", by("keeper")), by("Till-2")]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_works_once_it_has_what_the_doctor_says_it_lacks() {
    let postgres = PostgresServer::start();
    postgres.psql("CREATE ROLE keeper LOGIN");
    postgres.psql("CREATE ROLE \"Till-2\" LOGIN");
    for place in &PLACES {
        let [owner, role] = make_ready(&postgres, place);
        drop(start(&owner, |command| command));

        let looked = doctor(&role);
        assert_eq!((looked.code, looked.complaints()), (Some(1), vec![("role", "bad")]));
        assert!(looked.found("role").contains(place.lacks), "{}: {looked:?}", place.database);
        let advice = statements(looked.next("role"));
        assert_eq!(advice, place.advice);
        assert!(refusal(&role).contains(&advice));

        let as_owner = owner.split("&options").next().unwrap();
        postgres.psql_at(as_owner, &advice).unwrap();
        let looked = doctor(&role);
        assert_eq!((looked.code, looked.complaints()), (Some(0), vec![]), "{looked:?}");
        does_all_verbs(&role).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_that_may_make_tables_makes_them() {
    let postgres = PostgresServer::start();
    postgres.psql("CREATE ROLE shop LOGIN; CREATE SCHEMA hidden");
    let public = postgres.url().replace("postgres@", "shop@");
    let hidden = format!("{public}&options=-csearch_path%3Dhidden");
    for (url, schema) in [(public, "public"), (hidden, "hidden")] {
        let Looked { code, .. } = doctor(&url);
        let advice = format!("GRANT USAGE, CREATE ON SCHEMA {schema} TO shop");
        assert_eq!((code, statements(doctor(&url).next("role"))), (Some(1), advice.clone()));
        assert!(refusal(&url).contains(&advice));
        postgres.psql(&advice);
        assert_eq!(doctor(&url).complaints(), []);
        does_all_verbs(&url).await;
    }
}

#[test]
fn a_search_path_that_leads_nowhere_is_told() {
    let postgres = PostgresServer::start();
    let url = format!("{}&options=-csearch_path%3Dnowhere", postgres.url());
    let looked = doctor(&url);
    assert_eq!((looked.code, looked.complaints()), (Some(1), vec![("role", "bad")]));
    assert!(looked.next("role").starts_with("search_path names no schema that exists"));
    assert!(refusal(&url).contains("CREATE SCHEMA"));
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_may_only_read_can_verify() {
    let postgres = PostgresServer::start();
    does_all_verbs(&postgres.url()).await;
    postgres
        .psql("CREATE ROLE auditor LOGIN; GRANT SELECT ON ALL TABLES IN SCHEMA public TO auditor");
    let url = postgres.url().replace("postgres@", "auditor@");
    let report = verify(&url, &[]);
    let said = String::from_utf8_lossy(&report.stdout);
    assert_eq!(report.status.code(), Some(0), "{report:?}");
    assert!(said.starts_with("1 items, 2 holds, 2 movements"), "{said}");
    let lacks = "auditor lacks INSERT, UPDATE, DELETE on ";
    assert!(doctor(&url).found("role").starts_with(lacks), "it cannot serve");
}

/// Touches every table and function that a server touches.
async fn does_all_verbs(url: &str) {
    let instance = start(url, |command| command);
    let mut keeper = Shopper::new(instance.address());
    keeper.put_stock("MUG", 5).await;
    keeper.receive("MUG", 1, "delivery").await.expect_status(201);
    let kept = keeper.place("kept", &[("MUG", 1)], TTL).await.id();
    keeper.extend(&kept, TTL * 2).await.expect_status(200);
    keeper.confirm(&kept).await.expect_status(200);
    let freed = keeper.place("freed", &[("MUG", 5)], TTL).await.id();
    keeper.release(&freed).await.expect_status(200);
    let item = keeper.get("/v1/stock/MUG").await.expect_status(200);
    assert_eq!((&item["on_hand"], &item["available"]), (&6.into(), &5.into()));
    assert_eq!(instance.log(), "");
    assert_eq!(verify(url, &[]).status.code(), Some(0));
}
