"""The ten networks that EAL-ICNet is compared to, one file each."""
