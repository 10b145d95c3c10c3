WORKERS=0
. "$rig/plugins/martlet.sh"
DESC="Martlet pair over HBONE, two workers"
