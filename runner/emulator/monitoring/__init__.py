"""Cloud Monitoring: notification channels and alert policies."""
