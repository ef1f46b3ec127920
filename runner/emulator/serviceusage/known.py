"""Maps names of Google's public APIs that a tuning stack may enable to titles. Source: the API library, 2026.

Enabling another name is refused, as Google refuses unknown names, so that misspellings are noticed.
"""

from __future__ import annotations

TITLES: dict[str, str] = {
    f"{name}.googleapis.com": title
    for name, title in {
        "accesscontextmanager": "Access Context Manager API",
        "aiplatform": "Vertex AI API",
        "analyticshub": "Analytics Hub API",
        "apigateway": "API Gateway API",
        "apikeys": "API Keys API",
        "appengine": "App Engine Admin API",
        "artifactregistry": "Artifact Registry API",
        "bigquery": "BigQuery API",
        "bigqueryconnection": "BigQuery Connection API",
        "bigquerydatatransfer": "BigQuery Data Transfer API",
        "bigquerymigration": "BigQuery Migration API",
        "bigqueryreservation": "BigQuery Reservation API",
        "bigquerystorage": "BigQuery Storage API",
        "binaryauthorization": "Binary Authorization API",
        "billingbudgets": "Cloud Billing Budget API",
        "certificatemanager": "Certificate Manager API",
        "cloudapis": "Google Cloud APIs",
        "cloudasset": "Cloud Asset API",
        "cloudbilling": "Cloud Billing API",
        "cloudbuild": "Cloud Build API",
        "clouddeploy": "Cloud Deploy API",
        "clouderrorreporting": "Error Reporting API",
        "cloudfunctions": "Cloud Functions API",
        "cloudidentity": "Cloud Identity API",
        "cloudkms": "Cloud Key Management Service (KMS) API",
        "cloudquotas": "Cloud Quotas API",
        "cloudresourcemanager": "Cloud Resource Manager API",
        "cloudscheduler": "Cloud Scheduler API",
        "cloudtasks": "Cloud Tasks API",
        "cloudtrace": "Cloud Trace API",
        "compute": "Compute Engine API",
        "container": "Kubernetes Engine API",
        "containeranalysis": "Container Analysis API",
        "containerregistry": "Container Registry API",
        "datacatalog": "Google Cloud Data Catalog API",
        "dataflow": "Dataflow API",
        "dataform": "Dataform API",
        "dataplex": "Cloud Dataplex API",
        "dataproc": "Cloud Dataproc API",
        "datastore": "Cloud Datastore API",
        "deploymentmanager": "Cloud Deployment Manager V2 API",
        "dialogflow": "Dialogflow API",
        "discoveryengine": "Discovery Engine API",
        "dlp": "Sensitive Data Protection (DLP)",
        "dns": "Cloud DNS API",
        "documentai": "Cloud Document AI API",
        "essentialcontacts": "Essential Contacts API",
        "eventarc": "Eventarc API",
        "file": "Cloud Filestore API",
        "firestore": "Cloud Firestore API",
        "generativelanguage": "Generative Language API",
        "gkehub": "GKE Hub API",
        "iam": "Identity and Access Management (IAM) API",
        "iamcredentials": "IAM Service Account Credentials API",
        "iap": "Cloud Identity-Aware Proxy API",
        "language": "Cloud Natural Language API",
        "logging": "Cloud Logging API",
        "ml": "AI Platform Training & Prediction API",
        "monitoring": "Cloud Monitoring API",
        "networkconnectivity": "Network Connectivity API",
        "networkmanagement": "Network Management API",
        "networksecurity": "Network Security API",
        "networkservices": "Network Services API",
        "notebooks": "Notebooks API",
        "orgpolicy": "Organization Policy API",
        "osconfig": "OS Config API",
        "oslogin": "Cloud OS Login API",
        "policysimulator": "Policy Simulator API",
        "policytroubleshooter": "Policy Troubleshooter API",
        "privateca": "Certificate Authority API",
        "pubsub": "Cloud Pub/Sub API",
        "recommender": "Recommender API",
        "redis": "Google Cloud Memorystore for Redis API",
        "retail": "Vertex AI Search for commerce API",
        "run": "Cloud Run Admin API",
        "secretmanager": "Secret Manager API",
        "securitycenter": "Security Command Center API",
        "servicecontrol": "Service Control API",
        "servicedirectory": "Service Directory API",
        "servicemanagement": "Service Management API",
        "servicenetworking": "Service Networking API",
        "serviceusage": "Service Usage API",
        "sourcerepo": "Cloud Source Repositories API",
        "spanner": "Cloud Spanner API",
        "speech": "Cloud Speech-to-Text API",
        "sql-component": "Cloud SQL",
        "sqladmin": "Cloud SQL Admin API",
        "storage": "Cloud Storage API",
        "storage-api": "Google Cloud Storage JSON API",
        "storage-component": "Cloud Storage",
        "storageinsights": "Storage Insights API",
        "storagetransfer": "Storage Transfer API",
        "sts": "Security Token Service API",
        "texttospeech": "Cloud Text-to-Speech API",
        "tpu": "Cloud TPU API",
        "translate": "Cloud Translation API",
        "videointelligence": "Cloud Video Intelligence API",
        "visionai": "Vision AI API",
        "vision": "Cloud Vision API",
        "vpcaccess": "Serverless VPC Access API",
        "workflowexecutions": "Workflow Executions API",
        "workflows": "Workflows API",
        "workloadidentity": "Workload Identity API",
        "workstations": "Cloud Workstations API",
    }.items()
}

DEPENDS_ON: dict[str, tuple[str, ...]] = {
    "container.googleapis.com": ("compute.googleapis.com",),
    "dataflow.googleapis.com": ("compute.googleapis.com",),
    "dataproc.googleapis.com": ("compute.googleapis.com",),
    "notebooks.googleapis.com": ("compute.googleapis.com",),
    "tpu.googleapis.com": ("compute.googleapis.com",),
    "compute.googleapis.com": ("oslogin.googleapis.com",),
    "bigquery.googleapis.com": ("bigquerystorage.googleapis.com",),
}
"""Enabling the key enables the values; a value cannot be disabled while the key is enabled (Google's documentation)."""


def dependencies(service: str) -> list[str]:
    """Return a service and all that it depends on, with the service last."""
    found: list[str] = []
    for below in DEPENDS_ON.get(service, ()):
        found += [name for name in dependencies(below) if name not in found]
    return [*found, service]


def dependents(service: str) -> list[str]:
    """Return all services that directly or indirectly depend on one."""
    return [name for name in sorted(DEPENDS_ON) if name != service and service in dependencies(name)]
