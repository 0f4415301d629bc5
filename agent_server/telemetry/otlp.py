"""Sends telemetry by OTLP over HTTP; where to is the SDK's business and its `OTEL_*` variables'."""

from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from agent_server.telemetry.spans import Telemetry

OUR_SERVICE_NAME = "agent-server"


def start(version: str) -> Telemetry:
    """Telemetry whose spans and metrics are sent in the background, from bounded queues."""
    resource = service_resource()
    meters = MeterProvider(
        [PeriodicExportingMetricReader(OTLPMetricExporter())],
        resource=resource,
        shutdown_on_exit=False,
    )
    tracers = TracerProvider(resource=resource, shutdown_on_exit=False)
    tracers.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return Telemetry(tracers, meters, version)


def service_resource() -> Resource:
    """What the environment says of this service, with our name where it has none."""
    resource = Resource.create()
    name = resource.attributes.get(SERVICE_NAME)
    if isinstance(name, str) and name.startswith("unknown_service"):
        return resource.merge(Resource({SERVICE_NAME: OUR_SERVICE_NAME}))
    return resource
