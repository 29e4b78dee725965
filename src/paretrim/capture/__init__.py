"""From any ``nn.Module`` to the neutral float graph."""

from paretrim.capture.driver import capture as capture
