# The Jupyter server behind VISA's Jupyter proxy. The service names this file with --config, so that
# a file of the same kind in the owner's home, perhaps shared with other machines, changes nothing.
# What depends on the instance (base_url, root_dir) is on the service's command line.
c = get_config()  # noqa: F821

# The proxy connects from outside; on any other port VISA would not find the server.
c.ServerApp.ip = "0.0.0.0"
c.ServerApp.port = 8888
c.ServerApp.port_retries = 0
c.ServerApp.allow_remote_access = True
c.ServerApp.trust_xheaders = True
c.ServerApp.open_browser = False
c.ServerApp.quit_button = False

# VISA's proxy lets in the owner only. allow_origin stays unset and the check against cross-site
# requests on: Host and Origin agree behind the proxy, and a page of another site gets nowhere.
c.IdentityProvider.token = ""
c.PasswordIdentityProvider.hashed_password = ""
c.PasswordIdentityProvider.password_required = False

c.ServerApp.terminado_settings = {"shell_command": ["/bin/bash", "-l"]}
c.FileContentsManager.delete_to_trash = False

# Extensions come with the image, and the server need not ask the Internet for news.
c.LabApp.extension_manager = "readonly"
c.LabApp.check_for_updates_class = "jupyterlab.NeverCheckForUpdate"
c.LabApp.news_url = None
