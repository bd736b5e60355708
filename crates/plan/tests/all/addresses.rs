//! Addresses read back as they are written.

use astraler_plan::Address;

#[test]
fn every_address_reads_back() {
    for text in [
        "edge.settings",
        "postgres.shared.settings",
        "postgres.production.settings",
        "environment.staging",
        "environment.pr-7.protection",
        "environment.pr-7.secrets",
        "environment.staging.database",
        "environment.production.redis",
        "environment.development.bucket.a.b",
        "environment.development.pool",
        "environment.development.workers",
        "environment.development.routes",
    ] {
        assert_eq!(text.parse::<Address>().unwrap().to_string(), text);
        let json = serde_json::to_string(&text.parse::<Address>().unwrap()).unwrap();
        assert_eq!(json, format!("\"{text}\""));
    }
}

#[test]
fn what_is_no_address_is_refused() {
    for text in [
        "",
        "environment",
        "environment.",
        "environment.qa",
        "environment.staging.",
        "environment.staging.bucket.",
        "environment.staging.nothing",
        "postgres.other.settings",
    ] {
        let error = text.parse::<Address>().unwrap_err().to_string();
        assert!(error.contains("names no resource"), "{error}");
    }
}
