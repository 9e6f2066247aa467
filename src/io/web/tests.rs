use super::*;
use http_body_util::Empty;
use serde_json::json;
use std::net::SocketAddr;

/// lb1 answers and has the VIP; lb3 has failed.
fn snapshot() -> Snapshot {
    let member = |name: &str, state: &str| {
        json!({
            "name": name, "id": name, "me": name == "lb1", "address": "10.0.0.11:7946", "state": state, "role": "member",
            "voter": true, "issuer": false, "standby": false, "health": "ok", "reason": "", "base_priority": 100,
            "priority": 100, "held_down_ms": null, "checks": [], "vips": [], "seen_ms": 0, "rtt_us": null,
            "certificate_s": 2_000_000, "version": "0.1.0", "incarnation": "", "config_differs": false
        })
    };
    let vip = json!({
        "name": "web", "id": "1", "addresses": ["10.0.0.100/24"], "interface": "eth0", "owner": "lb1", "mine": true,
        "state": "active", "term": 7, "since_ms": 1000, "lease_ms": 430, "neighbors_asked": null, "neighbors_acked": null,
        "neighbors_silent": [], "moved_to": null, "next": "lb2", "why": "priority 150 > 100"
    });
    let cluster = json!({
        "id": "3f9a", "mode": "quorum", "protection": "", "voters": ["lb1", "lb2", "lb3"], "voters_version": 3,
        "witnesses": [], "voters_chosen": false, "voters_change": null, "voters_in_contact": 2, "quorum": 2,
        "members_alive": 2, "fence": true
    });
    let all = json!({
        "schema": 1, "version": "0.1.0", "node": "lb1", "cluster": cluster, "vips": [vip], "warnings": [], "events": [],
        "members": [member("lb1", "alive"), member("lb2", "alive"), member("lb3", "failed")],
        "counters": { "packets_dropped": 0, "core_realtime": 1 }
    });
    serde_json::from_value(all).unwrap()
}

fn site(page: bool, snapshot: Option<Snapshot>) -> (Site, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let events = Arc::new(Events::open(dir.path()));
    events.note(true, "lb3 is not heard any more");
    let ask: Ask = Arc::new(move || {
        let snapshot = snapshot.clone();
        Box::pin(async move { snapshot })
    });
    let listen: SocketAddr = "127.0.0.1:9746".parse().unwrap();
    let viewers = Arc::new(Semaphore::new(1));
    (Site { web: Web { listen, page }, view: View { ask, events }, viewers }, dir)
}

fn get(path: &str) -> Request<Empty<Bytes>> {
    Request::get(path).header(HOST, "127.0.0.1:9746").body(Empty::new()).unwrap()
}

async fn text(response: Response<Body>) -> (u16, String) {
    let status = response.status().as_u16();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8(body.to_vec()).unwrap())
}

#[tokio::test]
async fn metrics_and_health_are_there_and_the_page_is_off() {
    let (site, _dir) = site(false, Some(snapshot()));
    let (status, metrics) = text(site.answer(&get("/metrics")).await).await;
    assert_eq!(status, 200);
    for line in [
        "haclusterd_vip_owner{vip=\"web\"} 1.0",
        "haclusterd_member_alive{member=\"lb3\"} 0.0",
        "haclusterd_voters_in_contact 2.0",
        "haclusterd_packets_dropped_total 0",
        "haclusterd_vip_lease_remaining_seconds{vip=\"web\"} 0.43",
    ] {
        assert!(metrics.lines().any(|found| found == line), "{line} is not in\n{metrics}");
    }
    assert_eq!(text(site.answer(&get("/healthz")).await).await, (200, "ok\n".into()));
    assert_eq!(text(site.answer(&get("/")).await).await.0, 404);
    assert_eq!(text(site.answer(&get("/live")).await).await.0, 404);
}

#[tokio::test]
async fn a_core_that_hangs_is_not_healthy() {
    let (site, _dir) = site(false, None);
    assert_eq!(text(site.answer(&get("/healthz")).await).await.0, 503);
}

#[tokio::test]
async fn nothing_is_changed_and_nobody_else_is_answered() {
    let (site, _dir) = site(true, Some(snapshot()));
    let post = Request::post("/metrics").body(Empty::<Bytes>::new()).unwrap();
    assert_eq!(site.answer(&post).await.status(), 405);
    let rebound =
        Request::get("/").header(HOST, "evil.example.com:9746").body(Empty::<Bytes>::new()).unwrap();
    assert_eq!(site.answer(&rebound).await.status(), 403);
    for host in ["localhost:9746", "[::1]:9746", "127.0.0.1"] {
        let request = Request::get("/").header(HOST, host).body(Empty::<Bytes>::new()).unwrap();
        assert_eq!(site.answer(&request).await.status(), 200, "{host}");
    }
}

#[tokio::test]
async fn the_page_is_live_for_as_many_as_may_look() {
    let (site, _dir) = site(true, Some(snapshot()));
    let mut first = site.answer(&get("/live")).await.into_body();
    assert_eq!(site.answer(&get("/live")).await.status(), 503);
    let frame = first.frame().await.unwrap().unwrap().into_data().unwrap();
    let said = String::from_utf8(frame.to_vec()).unwrap();
    let news: serde_json::Value = serde_json::from_str(said.strip_prefix("data: ").unwrap().trim()).unwrap();
    assert_eq!(news["snapshot"]["vips"][0]["owner"], "lb1");
    assert_eq!(news["events"][0]["text"], "lb3 is not heard any more");
    drop(first);
    assert_eq!(site.answer(&get("/live")).await.status(), 200);
}

#[test]
fn the_page_asks_nobody_else() {
    let page = include_str!("page.html");
    for word in ["http://", "https://", "src=", "@import", "url("] {
        assert!(!page.contains(word), "{word}");
    }
}
