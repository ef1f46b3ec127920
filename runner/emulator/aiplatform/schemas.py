"""The messages of google.cloud.aiplatform that requests may carry, v1beta1, and what v1 lacks of them.

Only fields that this server acts on or can store faithfully have a type of their own; the rest of a real message is
`value`: accepted, stored and sent back as it came.
"""

from __future__ import annotations

from runner.emulator.aiplatform.messages import OUTPUT, Enum, MapOf, Message, Repeated

TUNING_MODES = Enum(
    "google.cloud.aiplatform.v1beta1.SupervisedTuningSpec.TuningMode",
    {"TUNING_MODE_UNSPECIFIED": 0, "TUNING_MODE_FULL": 1, "TUNING_MODE_PEFT_ADAPTER": 2},
)
# The wire numbers are not the sizes.
ADAPTER_SIZES = Enum(
    "google.cloud.aiplatform.v1beta1.SupervisedHyperParameters.AdapterSize",
    {
        "ADAPTER_SIZE_UNSPECIFIED": 0,
        "ADAPTER_SIZE_ONE": 1,
        "ADAPTER_SIZE_TWO": 6,
        "ADAPTER_SIZE_FOUR": 2,
        "ADAPTER_SIZE_EIGHT": 3,
        "ADAPTER_SIZE_SIXTEEN": 4,
        "ADAPTER_SIZE_THIRTY_TWO": 5,
    },
)
RANKS = {
    "ADAPTER_SIZE_ONE": 1,
    "ADAPTER_SIZE_TWO": 2,
    "ADAPTER_SIZE_FOUR": 4,
    "ADAPTER_SIZE_EIGHT": 8,
    "ADAPTER_SIZE_SIXTEEN": 16,
    "ADAPTER_SIZE_THIRTY_TWO": 32,
}
"""LoRA rank of each adapter size."""
ACCELERATOR_TYPES = Enum(
    "google.cloud.aiplatform.v1beta1.AcceleratorType",
    {
        "ACCELERATOR_TYPE_UNSPECIFIED": 0,
        "NVIDIA_TESLA_K80": 1,
        "NVIDIA_TESLA_P100": 2,
        "NVIDIA_TESLA_V100": 3,
        "NVIDIA_TESLA_P4": 4,
        "NVIDIA_TESLA_T4": 5,
        "TPU_V2": 6,
        "TPU_V3": 7,
        "NVIDIA_TESLA_A100": 8,
        "NVIDIA_A100_80GB": 9,
        "TPU_V4_POD": 10,
        "NVIDIA_L4": 11,
        "TPU_V5_LITEPOD": 12,
        "NVIDIA_H100_80GB": 13,
        "NVIDIA_H100_MEGA_80GB": 14,
        "NVIDIA_H200_141GB": 15,
        "NVIDIA_B200": 16,
        "NVIDIA_GB200": 17,
        "NVIDIA_RTX_PRO_6000": 18,
    },
)
_RESERVATION_TYPES = Enum(
    "google.cloud.aiplatform.v1beta1.ReservationAffinity.Type",
    {
        "TYPE_UNSPECIFIED": 0,
        "NO_RESERVATION": 1,
        "ANY_RESERVATION": 2,
        "SPECIFIC_RESERVATION": 3,
        "SPECIFIC_THEN_ANY_RESERVATION": 4,
        "SPECIFIC_THEN_NO_RESERVATION": 5,
    },
)

_ENCRYPTION = Message("google.cloud.aiplatform.v1beta1.EncryptionSpec", {"kmsKeyName": "string"})
_LABELS = MapOf("string")


def _hyper_parameters(*, beta: bool) -> Message:
    fields = {"epochCount": "int64", "learningRateMultiplier": "double", "adapterSize": ADAPTER_SIZES}
    if beta:
        fields |= {"learningRate": "double", "batchSize": "int64"}
    return Message("google.cloud.aiplatform.v1beta1.SupervisedHyperParameters", fields)  # type: ignore[arg-type]


def _supervised(*, beta: bool) -> Message:
    fields = {
        "trainingDatasetUri": "string",
        "validationDatasetUri": "string",
        "hyperParameters": _hyper_parameters(beta=beta),
        "exportLastCheckpointOnly": "bool",
        "evaluationConfig": "value",
    }
    if beta:
        fields["tuningMode"] = TUNING_MODES
    return Message("google.cloud.aiplatform.v1beta1.SupervisedTuningSpec", fields)  # type: ignore[arg-type]


def _tuning_job(*, beta: bool) -> Message:
    fields = {
        "baseModel": "string",
        "preTunedModel": Message(
            "google.cloud.aiplatform.v1beta1.PreTunedModel",
            {"tunedModelName": "string", "checkpointId": "string", "baseModel": OUTPUT},
        ),
        "supervisedTuningSpec": _supervised(beta=beta),
        "tunedModelDisplayName": "string",
        "description": "string",
        "labels": _LABELS,
        "encryptionSpec": _ENCRYPTION,
        "serviceAccount": "string",
        **dict.fromkeys(
            ("name", "state", "createTime", "startTime", "endTime", "updateTime", "error", "experiment"), OUTPUT
        ),
        **dict.fromkeys(("tunedModel", "tuningDataStats", "evaluateDatasetRuns"), OUTPUT),
    }
    if beta:
        fields |= {
            "customBaseModel": "string",
            "outputUri": "string",
            "pipelineJob": OUTPUT,
            "distillationSpec": "value",
            "partnerModelTuningSpec": "value",
            "veoTuningSpec": "value",
            "veoLoraTuningSpec": "value",
        }
    return Message("google.cloud.aiplatform.v1beta1.TuningJob", fields)  # type: ignore[arg-type]


TUNING_JOB = {"v1": _tuning_job(beta=False), "v1beta1": _tuning_job(beta=True)}
"""TuningJob by API version: v1 knows nothing of open models' fields."""

MACHINE_SPEC = Message(
    "google.cloud.aiplatform.v1beta1.MachineSpec",
    {
        "machineType": "string",
        "acceleratorType": ACCELERATOR_TYPES,
        "acceleratorCount": "int32",
        "gpuPartitionSize": "string",
        "tpuTopology": "string",
        "multihostGpuNodeCount": "int32",
        "minGpuDriverVersion": "string",
        "reservationAffinity": Message(
            "google.cloud.aiplatform.v1beta1.ReservationAffinity",
            {"reservationAffinityType": _RESERVATION_TYPES, "key": "string", "values": Repeated("string")},
        ),
    },
)
DEDICATED_RESOURCES = Message(
    "google.cloud.aiplatform.v1beta1.DedicatedResources",
    {
        "machineSpec": MACHINE_SPEC,
        "minReplicaCount": "int32",
        "maxReplicaCount": "int32",
        "requiredReplicaCount": "int32",
        "initialReplicaCount": "int32",
        "autoscalingMetricSpecs": Repeated("value"),
        "spot": "bool",
        "flexStart": "value",
        "scaleToZeroSpec": "value",
    },
)
DEPLOYED_MODEL = Message(
    "google.cloud.aiplatform.v1beta1.DeployedModel",
    {
        "dedicatedResources": DEDICATED_RESOURCES,
        "automaticResources": "value",
        "sharedResources": "string",
        "id": "string",
        "model": "string",
        "modelVersionId": OUTPUT,
        "displayName": "string",
        "createTime": OUTPUT,
        "explanationSpec": "value",
        "disableExplanations": "bool",
        "serviceAccount": "string",
        "enableContainerLogging": "bool",
        "disableContainerLogging": "bool",
        "enableAccessLogging": "bool",
        "privateEndpoints": OUTPUT,
        "fasterDeploymentConfig": "value",
        "rolloutOptions": "value",
        "status": OUTPUT,
        "systemLabels": _LABELS,
        "checkpointId": "string",
    },
)
DEPLOY_MODEL = Message(
    "google.cloud.aiplatform.v1beta1.DeployModelRequest",
    {"deployedModel": DEPLOYED_MODEL, "trafficSplit": MapOf("int32")},
)
UNDEPLOY_MODEL = Message(
    "google.cloud.aiplatform.v1beta1.UndeployModelRequest",
    {"deployedModelId": "string", "trafficSplit": MapOf("int32")},
)
ENDPOINT = Message(
    "google.cloud.aiplatform.v1beta1.Endpoint",
    {
        "name": OUTPUT,
        "displayName": "string",
        "description": "string",
        "deployedModels": OUTPUT,
        "trafficSplit": MapOf("int32"),
        "etag": "string",
        "labels": _LABELS,
        "createTime": OUTPUT,
        "updateTime": OUTPUT,
        "encryptionSpec": _ENCRYPTION,
        "network": "string",
        "enablePrivateServiceConnect": "bool",
        "privateServiceConnectConfig": "value",
        "modelDeploymentMonitoringJob": OUTPUT,
        "predictRequestResponseLoggingConfig": "value",
        "dedicatedEndpointEnabled": "bool",
        "dedicatedEndpointDns": OUTPUT,
        "clientConnectionConfig": "value",
        "genAiAdvancedFeaturesConfig": "value",
        "privateModelServerEnabled": "bool",
        "satisfiesPzs": OUTPUT,
        "satisfiesPzi": OUTPUT,
    },
)
MODEL = Message(
    "google.cloud.aiplatform.v1beta1.Model",
    {
        "name": OUTPUT,
        "displayName": "string",
        "description": "string",
        "versionDescription": "string",
        "versionAliases": Repeated("string"),
        "labels": _LABELS,
        "artifactUri": "string",
        "containerSpec": "value",
        "metadata": "value",
        "metadataSchemaUri": "string",
        "predictSchemata": "value",
        "explanationSpec": "value",
        "encryptionSpec": _ENCRYPTION,
        "baseModelSource": "value",
        "etag": "string",
        **dict.fromkeys(
            (
                "versionId",
                "versionCreateTime",
                "versionUpdateTime",
                "createTime",
                "updateTime",
                "deployedModels",
                "supportedDeploymentResourcesTypes",
                "supportedExportFormats",
                "supportedInputStorageFormats",
                "supportedOutputStorageFormats",
                "modelSourceInfo",
                "originalModelInfo",
                "trainingPipeline",
                "checkpoints",
            ),
            OUTPUT,
        ),
    },
)
UPLOAD_MODEL = Message(
    "google.cloud.aiplatform.v1beta1.UploadModelRequest",
    {"parentModel": "string", "modelId": "string", "model": MODEL, "serviceAccount": "string"},
)
DEPLOY = Message(
    "google.cloud.aiplatform.v1beta1.DeployRequest",
    {
        "publisherModelName": "string",
        "huggingFaceModelId": "string",
        "customModel": Message("google.cloud.aiplatform.v1beta1.DeployRequest.CustomModel", {"gcsUri": "string"}),
        "modelConfig": Message(
            "google.cloud.aiplatform.v1beta1.DeployRequest.ModelConfig",
            {
                "acceptEula": "bool",
                "huggingFaceAccessToken": "string",
                "huggingFaceCacheEnabled": "bool",
                "modelDisplayName": "string",
                "containerSpec": "value",
                "modelUserId": "string",
            },
        ),
        "endpointConfig": Message(
            "google.cloud.aiplatform.v1beta1.DeployRequest.EndpointConfig",
            {
                "endpointDisplayName": "string",
                "dedicatedEndpointEnabled": "bool",
                "dedicatedEndpointDisabled": "bool",
                "privateServiceConnectConfig": "value",
                "endpointUserId": "string",
                "labels": _LABELS,
            },
        ),
        "deployConfig": Message(
            "google.cloud.aiplatform.v1beta1.DeployRequest.DeployConfig",
            {"dedicatedResources": DEDICATED_RESOURCES, "fastTryoutEnabled": "bool", "systemLabels": _LABELS},
        ),
    },
)
RECOMMEND_SPEC = Message(
    "google.cloud.aiplatform.v1beta1.RecommendSpecRequest",
    {"gcsUri": "string", "checkMachineAvailability": "bool", "checkUserQuota": "bool"},
)
