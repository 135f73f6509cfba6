//! The table of promises, one line per row of the output.

use super::Group::{self, Brokers, Cloud, Egress, Pool, Proxies, RemoteCluster, SelfManaged};
use super::names::{
    ARTIFACTS, CLOUD_CLUSTER_1, CLOUD_CLUSTER_2, CLOUD_ES_1, CLOUD_ES_2, CLOUD_FLEET, CLOUD_POLICY,
    ECK_POLICY, ES_1, ES_2, ES_INGRESS, ES_MTLS, FIRST_CLUSTER, FLEET, FLEET_INGRESS,
    FLEET_INGRESS_ECK, FLEET_MTLS, LOGSTASH, LOGSTASH_MTLS, MUTUAL_POLICY, PLAIN_POLICY,
    PRIVATE_ES, PRIVATE_FLEET, PROJECT_CLUSTER, PROXY, REMOTE, REMOTE_API_KEY, SECOND_CLUSTER,
    SERVERLESS_ES,
};
use crate::kafka;
use crate::lab::{ADDRESS, Who};
use crate::rows::{Promise, Protocol, Reach, Refusal, Run, Talk};
use crate::server::Kind;
use crate::site::{Front, Way};
use crate::tls::Offer;
use crate::tunnel::Login;

const CHECK_IN: Talk = Talk::CheckIn(Offer::Nothing);
/// As agents behind a proxy: they offer HTTP/2 to Fleet Server.
const CHECK_IN_H2: Talk = Talk::CheckIn(Offer::Http2);
const BULK: Talk = Talk::Bulk;
const IDENTIFY: Talk = Talk::Identify;
const DOWNLOAD: Talk = Talk::Download;
const LUMBERJACK: Talk = Talk::Frames(Protocol::Lumberjack);
const TRANSPORT: Talk = Talk::Frames(Protocol::Transport);
const PRODUCE: Talk = Talk::Frames(Protocol::Kafka);
const WHOLE: &str = "digest is right";
const EVENTS: &str = "4096 acknowledged";
const SOCKETS: &str = "cluster-b: 18 sockets";
const BROKERS: &str = "kafka-1, kafka-2, kafka-3";
const UNKNOWN_CA: &str = "alert 48 unknown_ca";
const NOT_REACHED: &str = "alert 80 internal_error";
const NO_ACCESS: &str = "alert 49 access_denied";
const NO_NAME: &str = "alert 112 unrecognized_name";
const NO_CERTIFICATE: &str = "alert 116 certificate_required";
const FORBIDDEN: &str = "403 portway has no route for this host and port";
const NOT_ALLOWED: &str = "SOCKS5 reply 2";
const UNKNOWN_USER: &str = "407 portway does not know this user and password";
const STATUS_1: &str = "SOCKS5: status 1 for user and password";

/// Each row: the topology, the clients and servers, the way, the requests, and the certificate and the name of
/// the server that must answer.
#[rustfmt::skip]
pub(crate) const PROMISES: &[Promise] = &[
    one_way("T1", "agent -> Fleet Server of Elastic Cloud", at("cloud", CLOUD_FLEET), CHECK_IN, ("elastic-cloud", CLOUD_POLICY)),
    one_way("T1", "agent -> Elasticsearch of a deployment", at("cloud", CLOUD_ES_1), BULK, ("elastic-cloud", CLOUD_CLUSTER_1)),
    one_way("T1", "agent -> Elasticsearch of another one", at("cloud", CLOUD_ES_2), IDENTIFY, ("elastic-cloud", CLOUD_CLUSTER_2)),
    one_way("T1", "agent -> Fleet Server at port 9243", at("cloud_9243", CLOUD_FLEET), CHECK_IN, ("elastic-cloud", CLOUD_POLICY)),
    one_way("T1", "agent -> Fleet Server, site's proxy", way(Egress, "agents", Front::Direct, CLOUD_FLEET), CHECK_IN, ("fleet-server", CLOUD_POLICY)),
    one_way("T1", "agent -> Elasticsearch, site's SOCKS5", way(Egress, "agents", Front::Direct, CLOUD_ES_1), BULK, ("elasticsearch", CLOUD_CLUSTER_1)),
    one_way("T2", "own Fleet Server -> Elastic Cloud", way(Cloud, "cloud", Front::Beside, FLEET), Talk::EnrollAndRecord(CLOUD_ES_1), ("elastic-cloud", CLOUD_CLUSTER_1)),
    one_way("T2", "agent of that Fleet Server -> Elastic Cloud", at("cloud", CLOUD_ES_1), IDENTIFY, ("elastic-cloud", CLOUD_CLUSTER_1)),

    one_way("T3", "agent -> Fleet Server", direct(FLEET), CHECK_IN, ("fleet-server", PLAIN_POLICY)),
    one_way("T3", "Fleet Server -> Elasticsearch", direct(FLEET), Talk::EnrollAndRecord(ES_1), ("elasticsearch-1", FIRST_CLUSTER)),
    one_way("T3", "agent -> Elasticsearch, _bulk", direct(ES_1), BULK, ("elasticsearch-1", FIRST_CLUSTER)),
    one_way("T3", "agent -> the first of two clusters", direct(ES_1), IDENTIFY, ("elasticsearch-1", FIRST_CLUSTER)),
    one_way("T3", "agent -> the second of two clusters", direct(ES_2), IDENTIFY, ("elasticsearch-2", SECOND_CLUSTER)),
    refused("T3", "name without a route", direct("unknown.example"), Who::Agent, (NO_NAME, None)),
    mutual("T4", "agent -> Fleet Server", direct(FLEET_MTLS), CHECK_IN, ("fleet-server", MUTUAL_POLICY)),
    mutual("T4", "agent -> Fleet Server, HTTP/2", direct(FLEET_MTLS), CHECK_IN_H2, ("fleet-server", MUTUAL_POLICY)),
    mutual("T4", "Fleet Server -> Elasticsearch", direct(FLEET_MTLS), Talk::EnrollAndRecord(ES_MTLS), ("elasticsearch-2", SECOND_CLUSTER)),
    mutual("T4", "agent -> Elasticsearch, _bulk", direct(ES_MTLS), BULK, ("elasticsearch-2", SECOND_CLUSTER)),
    mutual("T4", "agent -> Fleet Server, site's proxy", way(Egress, "agents", Front::Direct, FLEET_MTLS), CHECK_IN, ("fleet-server", MUTUAL_POLICY)),
    refused("T4", "agent of another authority", direct(FLEET_MTLS), Who::Stranger, (UNKNOWN_CA, Some(Kind::FleetServer))),
    refused("T4", "agent without a certificate", direct(FLEET_MTLS), Who::Nobody, (NO_CERTIFICATE, Some(Kind::FleetServer))),

    one_way("T6", "CONNECT: agent -> Fleet Server", connect(FLEET, 8220), CHECK_IN_H2, ("fleet-server", PLAIN_POLICY)),
    mutual("T6", "CONNECT: agent -> Fleet Server", connect(FLEET_MTLS, 8220), CHECK_IN_H2, ("fleet-server", MUTUAL_POLICY)),
    one_way("T6", "CONNECT: agent -> Elasticsearch, _bulk", connect(ES_1, 9200), BULK, ("elasticsearch-1", FIRST_CLUSTER)),
    mutual("T6", "CONNECT: agent -> Elasticsearch, _bulk", connect(ES_MTLS, 9200), BULK, ("elasticsearch-2", SECOND_CLUSTER)),
    one_way("T6", "SOCKS5: agent -> Fleet Server", socks5(FLEET, 8220), CHECK_IN_H2, ("fleet-server", PLAIN_POLICY)),
    mutual("T6", "SOCKS5: agent -> Fleet Server", socks5(FLEET_MTLS, 8220), CHECK_IN_H2, ("fleet-server", MUTUAL_POLICY)),
    mutual("T6", "SOCKS5: agent -> Logstash", socks5(LOGSTASH_MTLS, 5044), LUMBERJACK, ("logstash", EVENTS)),
    one_way("T6", "CONNECT, password: agent -> Fleet Server", with(Login::Right, connect(FLEET, 8220)), CHECK_IN_H2, ("fleet-server", PLAIN_POLICY)),
    mutual("T6", "CONNECT, password: agent -> Fleet Server", with(Login::Right, connect(FLEET_MTLS, 8220)), CHECK_IN_H2, ("fleet-server", MUTUAL_POLICY)),
    one_way("T6", "SOCKS5, password: agent -> Fleet Server", with(Login::Right, socks5(FLEET, 8220)), CHECK_IN_H2, ("fleet-server", PLAIN_POLICY)),
    mutual("T6", "SOCKS5, password: agent -> Logstash", with(Login::Right, socks5(LOGSTASH_MTLS, 5044)), LUMBERJACK, ("logstash", EVENTS)),
    refused("T6", "CONNECT to a port without a route", connect(FLEET, 22), Who::Agent, (FORBIDDEN, None)),
    refused("T6", "CONNECT, and another server name", other_name(FLEET, ES_1), Who::Agent, (NO_ACCESS, None)),
    refused("T6", "SOCKS5 to a name without a route", socks5("unknown.example", 8220), Who::Agent, (NOT_ALLOWED, None)),
    refused("T6", "CONNECT, wrong password", with(Login::Wrong, connect(FLEET, 8220)), Who::Agent, (UNKNOWN_USER, None)),
    refused("T6", "SOCKS5, wrong password", with(Login::Wrong, socks5(FLEET, 8220)), Who::Agent, (STATUS_1, None)),
    one_way("T7", "HTTPS proxy: agent -> Fleet Server", https_proxy(FLEET), CHECK_IN_H2, ("fleet-server", PLAIN_POLICY)),
    mutual("T7", "HTTPS proxy: agent -> Fleet Server", https_proxy(FLEET_MTLS), CHECK_IN_H2, ("fleet-server", MUTUAL_POLICY)),
    refused("T7", "HTTPS proxy: agent without a certificate", https_proxy(FLEET_MTLS), Who::Nobody, (NO_CERTIFICATE, Some(Kind::HttpsProxy))),

    one_way("T8", "agent -> Logstash", direct(LOGSTASH), LUMBERJACK, ("logstash", EVENTS)),
    mutual("T8", "agent -> Logstash", direct(LOGSTASH_MTLS), LUMBERJACK, ("logstash", EVENTS)),
    mutual("T8", "Logstash -> Elasticsearch", direct(ES_MTLS), Talk::BulkOfLogstash, ("elasticsearch-2", SECOND_CLUSTER)),

    one_way("T9", "agent -> artifacts.elastic.co", at("cloud", ARTIFACTS), DOWNLOAD, ("artifacts", WHOLE)),
    one_way("T9", "CONNECT: agent -> artifacts.elastic.co", way(Cloud, "proxy", Front::HttpConnect, ARTIFACTS), DOWNLOAD, ("artifacts", WHOLE)),

    refused("T9", "agent -> a server that the proxy forbids", way(Egress, "agents", Front::Direct, ARTIFACTS), Who::Agent, (NOT_REACHED, None)),

    spread("T10", "agents -> three Fleet Servers, one ends", way(Pool, "agents", Front::Direct, FLEET), false, 0),
    spread("T10", "agents -> three Fleet Servers, one ends", way(Pool, "agents", Front::Direct, FLEET_MTLS), true, 3),

    one_way("T11", "agent -> Fleet Server, by IP address", by_address("fleet_by_address"), CHECK_IN, ("fleet-server", PLAIN_POLICY)),
    mutual("T11", "agent -> Fleet Server, by IP address", by_address("fleet_mtls_by_address"), CHECK_IN, ("fleet-server", MUTUAL_POLICY)),
    one_way("T11", "agent -> Elasticsearch, by IP address", by_address("es_by_address"), BULK, ("elasticsearch-1", FIRST_CLUSTER)),

    one_way("T12", "agent -> Fleet Server, ingress", direct(FLEET_INGRESS), CHECK_IN, ("fleet-server", PLAIN_POLICY)),
    mutual("T12", "agent -> Fleet Server of ECK, required", direct(FLEET_INGRESS_ECK), CHECK_IN, ("fleet-server-eck", ECK_POLICY)),
    one_way("T12", "agent -> Elasticsearch, ingress", direct(ES_INGRESS), IDENTIFY, ("elasticsearch-1", FIRST_CLUSTER)),
    refused("T12", "agent without a certificate -> ECK", direct(FLEET_INGRESS_ECK), Who::Nobody, (NO_CERTIFICATE, Some(Kind::FleetServer))),

    one_way("T13", "agent -> Fleet Server, PrivateLink", at("cloud", PRIVATE_FLEET), CHECK_IN, ("elastic-cloud-private", CLOUD_POLICY)),
    one_way("T13", "agent -> Elasticsearch, PrivateLink, 9243", at("cloud_9243", PRIVATE_ES), BULK, ("elastic-cloud-private", CLOUD_CLUSTER_1)),
    one_way("T13", "agent -> Elasticsearch, Serverless", at("cloud", SERVERLESS_ES), IDENTIFY, ("elastic-cloud-private", PROJECT_CLUSTER)),

    one_way("T14", "cluster A -> cluster B, API key", way(RemoteCluster, "transport", Front::Direct, REMOTE_API_KEY), TRANSPORT, ("node-of-cluster-b", SOCKETS)),
    mutual("T14", "cluster A -> cluster B, certificates", way(RemoteCluster, "transport", Front::Direct, REMOTE), TRANSPORT, ("node-of-cluster-b", SOCKETS)),

    one_way("T15", "agent -> three brokers of Kafka", way(Brokers, "kafka", Front::Direct, kafka::HOSTS[0]), PRODUCE, ("kafka-1", BROKERS)),
    mutual("T15", "agent -> three brokers of Kafka", way(Brokers, "kafka_mtls", Front::Direct, kafka::HOSTS[0]), PRODUCE, ("kafka-1", BROKERS)),
];

type Answered = (&'static str, &'static str);

const fn one_way(
    id: &'static str,
    what: &'static str,
    way: Way,
    talk: Talk,
    answered: Answered,
) -> Promise {
    let (server, answer) = answered;
    let run = Run::Reach(Reach {
        talk,
        server,
        answer,
    });
    Promise {
        id,
        what,
        is_mutual: false,
        way,
        run,
    }
}

const fn mutual(
    id: &'static str,
    what: &'static str,
    way: Way,
    talk: Talk,
    answered: Answered,
) -> Promise {
    Promise {
        is_mutual: true,
        ..one_way(id, what, way, talk, answered)
    }
}

const fn refused(
    id: &'static str,
    what: &'static str,
    way: Way,
    who: Who,
    refusal: (&'static str, Option<Kind>),
) -> Promise {
    let (reason, by) = refusal;
    Promise {
        id,
        what,
        is_mutual: true,
        way,
        run: Run::Refusal(Refusal { who, reason, by }),
    }
}

const fn spread(
    id: &'static str,
    what: &'static str,
    way: Way,
    is_mutual: bool,
    ends: usize,
) -> Promise {
    Promise {
        id,
        what,
        is_mutual,
        way,
        run: Run::Spread { ends },
    }
}

const fn way(group: Group, listener: &'static str, front: Front, host: &'static str) -> Way {
    Way {
        group,
        listener,
        front,
        host,
        port: 443,
        login: Login::None,
    }
}

/// A name that the DNS of the site leads to portway.
const fn direct(host: &'static str) -> Way {
    way(SelfManaged, "names", Front::Direct, host)
}

/// An IP address in the URL: the client sends no server name.
const fn by_address(listener: &'static str) -> Way {
    way(SelfManaged, listener, Front::Direct, ADDRESS)
}

/// A name outside, which the DNS of the agents leads to portway.
const fn at(listener: &'static str, host: &'static str) -> Way {
    way(Cloud, listener, Front::Direct, host)
}

const fn connect(host: &'static str, port: u16) -> Way {
    Way {
        port,
        ..way(Proxies, "connect", Front::HttpConnect, host)
    }
}

/// The same at the listener that asks for a user and a password.
const fn with(login: Login, way: Way) -> Way {
    let listener = if matches!(way.front, Front::Socks5) {
        "socks5_users"
    } else {
        "connect_users"
    };
    Way {
        listener,
        login,
        ..way
    }
}

const fn other_name(host: &'static str, name: &'static str) -> Way {
    Way {
        front: Front::HttpConnectThenOther(name),
        ..connect(host, 8220)
    }
}

const fn socks5(host: &'static str, port: u16) -> Way {
    Way {
        port,
        ..way(Proxies, "socks5", Front::Socks5, host)
    }
}

const fn https_proxy(host: &'static str) -> Way {
    Way {
        port: 8220,
        ..way(Proxies, "names", Front::HttpsProxy(PROXY), host)
    }
}
