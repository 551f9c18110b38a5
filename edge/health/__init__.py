"""What the box says about itself: metrics, named health checks, and the supervisor's watchdog."""
