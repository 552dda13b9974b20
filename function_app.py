"""The function app: registers the blueprints and nothing else."""

import azure.functions as func

from consumer.triggers import blueprint as consumer_blueprint
from ops.triggers import blueprint as ops_blueprint
from producer.triggers import blueprint as producer_blueprint

app = func.FunctionApp(http_auth_level=func.AuthLevel.FUNCTION)
app.register_functions(producer_blueprint)
app.register_functions(consumer_blueprint)
app.register_functions(ops_blueprint)
