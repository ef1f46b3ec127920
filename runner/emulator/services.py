"""The services on the port, and the order in which their paths are tried."""

from __future__ import annotations

from runner.emulator.context import Emulator
from runner.emulator.routing import Method


def all_methods() -> list[Method]:
    """Return every supported method.

    Storage is first, because it has the most requests; its XML paths are last, because they match anything.
    """
    from runner.emulator import fault_routes, retry_tests
    from runner.emulator.aiplatform import routes as aiplatform
    from runner.emulator.cloudresourcemanager import routes as cloudresourcemanager
    from runner.emulator.control import routes as control
    from runner.emulator.definitions.checking import checked
    from runner.emulator.iam import routes as iam
    from runner.emulator.monitoring import routes as monitoring
    from runner.emulator.serverless import routes as serverless
    from runner.emulator.serviceusage import routes as serviceusage
    from runner.emulator.storage import routes as storage
    from runner.emulator.storage import xml_routes

    def ids() -> list[str]:
        return [method.id for method in all_methods()]

    return [
        *storage.METHODS,
        *map(checked, control.METHODS),
        *map(checked, serverless.METHODS),
        *map(checked, serviceusage.METHODS),
        *map(checked, cloudresourcemanager.METHODS),
        *map(checked, iam.METHODS),
        *map(checked, monitoring.METHODS),
        *aiplatform.METHODS,
        *fault_routes.methods(ids),
        *retry_tests.methods(ids),
        *xml_routes.METHODS,
    ]


def schemas() -> tuple[str, ...]:
    """Return the SQL of the services that have tables of their own."""
    from runner.emulator.storage.tables import SCHEMA

    return (SCHEMA,)


async def start(emulator: Emulator) -> None:
    """Start the background parts: sweepers, job executor, deployments. Called before the port is ready."""
    from runner.emulator.aiplatform import lifecycle as aiplatform
    from runner.emulator.serverless import schedules
    from runner.emulator.storage import lifecycle as storage

    await storage.start(emulator)
    await aiplatform.start(emulator)
    await schedules.start(emulator)


async def stop(emulator: Emulator) -> None:
    """Stop the background parts; unfinished jobs continue at the next start."""
    from runner.emulator import fault_routes
    from runner.emulator.aiplatform import lifecycle as aiplatform

    await aiplatform.stop(emulator)
    fault_routes.report_unused(emulator.faults)
    emulator.launcher.close()
