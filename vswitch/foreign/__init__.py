"""Ports for what speaks no vswitch: raw UDP, framed TCP, KCP, VXLAN, QEMU. All of it is plain text.

Nothing here is on unless a configuration file names it, each listener is bounded in the number of
its ports and in how fast they come, and the log says at the start that nothing is encrypted.
"""
