//! The names that clients use, and those by which servers answer.

/// Servers of a self-managed site.
pub(crate) const FLEET: &str = "fleet.example";
pub(crate) const FLEET_MTLS: &str = "fleet-mtls.example";
pub(crate) const ES_1: &str = "es-1.example";
pub(crate) const ES_2: &str = "es-2.example";
pub(crate) const ES_MTLS: &str = "es-mtls.example";
pub(crate) const LOGSTASH: &str = "logstash.example";
pub(crate) const LOGSTASH_MTLS: &str = "logstash-mtls.example";
/// Names of an ingress.
pub(crate) const FLEET_INGRESS: &str = "fleet.apps.example";
pub(crate) const FLEET_INGRESS_ECK: &str = "fleet-eck.apps.example";
pub(crate) const ES_INGRESS: &str = "elasticsearch.apps.example";
/// A proxy that agents reach by HTTPS.
pub(crate) const PROXY: &str = "proxy.example";
/// Another cluster.
pub(crate) const REMOTE: &str = "cluster-b.example";
pub(crate) const REMOTE_API_KEY: &str = "cluster-b-api-key.example";

/// Deployments of Elastic Cloud.
pub(crate) const CLOUD_FLEET: &str = "d1.fleet.us-east-1.aws.elastic-cloud.com";
pub(crate) const CLOUD_ES_1: &str = "d1.es.us-east-1.aws.elastic-cloud.com";
pub(crate) const CLOUD_ES_2: &str = "d2.es.us-east-1.aws.elastic-cloud.com";
/// The same by PrivateLink, and a project of Serverless.
pub(crate) const PRIVATE_FLEET: &str = "d1.fleet.vpce.us-east-1.aws.elastic-cloud.com";
pub(crate) const PRIVATE_ES: &str = "d1.es.vpce.us-east-1.aws.elastic-cloud.com";
pub(crate) const SERVERLESS_ES: &str = "p1.es.private.us-east-1.aws.elastic.cloud";
pub(crate) const ARTIFACTS: &str = "artifacts.elastic.co";

pub(crate) const FIRST_CLUSTER: &str = "first-cluster";
pub(crate) const SECOND_CLUSTER: &str = "second-cluster";
pub(crate) const CLOUD_CLUSTER_1: &str = "cloud-cluster-1";
pub(crate) const CLOUD_CLUSTER_2: &str = "cloud-cluster-2";
pub(crate) const PROJECT_CLUSTER: &str = "project-cluster";
pub(crate) const PLAIN_POLICY: &str = "plain-policy";
pub(crate) const MUTUAL_POLICY: &str = "mutual-policy";
pub(crate) const ECK_POLICY: &str = "eck-policy";
pub(crate) const CLOUD_POLICY: &str = "cloud-policy";
