//! Renewal behind a client's back.

use super::ask::ask;
use super::entry::Entry;
use super::{Cached, Call, Rules};
use crate::waf::Inspection;
use astraler_http_cache::{Asked, Forward, Key};
use http::Method;
use http::header;
use http::request::Parts;
use std::sync::Arc;

/// Renews a stored response while its client has it already (RFC 5861 section 3). One at a time for each, and no more
/// than a bound at once: if there are, a later request does it.
pub(super) fn behind(call: &Call<'_>, rules: &Arc<Rules>, parts: &Parts, key: Key, entry: Arc<Entry>) {
    let edge = call.edge;
    let Ok(permit) = edge.cache.behind.clone().try_acquire_owned() else {
        return;
    };
    let Some(lead) = edge.cache.flights.lead(&format!("behind\n{}", key.as_str())) else {
        return;
    };
    // The client's conditions and wishes are answered; what it is told later is not for it alone.
    let mut headers = parts.headers.clone();
    headers.remove(header::CACHE_CONTROL);
    headers.remove(header::PRAGMA);
    headers.remove(header::RANGE);
    headers.remove(header::IF_RANGE);
    let (edge, client) = (edge.clone(), call.client.clone());
    let (rules, checked) = (rules.clone(), call.checked.clone());
    let inspection = call.inspection.map(Inspection::behind);
    let tasks = edge.tasks.clone();
    tasks.spawn(async move {
        let _permit = permit;
        let renewed = async {
            let site = edge.routes.load().site(&checked.host).cloned();
            let Some(mut site) = site else { return };
            if let Some(asleep) = &site.wake {
                if crate::wake::wake(&edge, asleep, site.environment).await.is_err() {
                    return;
                }
                match edge.routes.load().site(&checked.host).cloned() {
                    Some(awake) => site = awake,
                    None => return,
                }
            }
            let Some(worker) = site.worker(checked.path()) else {
                return;
            };
            let call = Call {
                edge: &edge,
                client: &client,
                checked: &checked,
                worker,
                inspection: inspection.as_ref(),
            };
            let call = Cached {
                call: &call,
                edge: &edge,
                request_id: &crate::forward::request_id(std::time::SystemTime::now()),
                interim: &crate::client::Interim::none(),
                effort: &crate::upstream::Effort::default(),
                rules: &rules,
                key: &key,
            };
            let asked = Asked::new(&Method::GET, &headers, &rules.settings);
            if let Err(fault) = ask(&call, &asked, Some(entry), Forward::Stale, Some(lead)).await {
                tracing::debug!(%fault, "a stored response could not be renewed");
            }
        };
        edge.aborting.clone().run_until_cancelled(renewed).await;
    });
}
